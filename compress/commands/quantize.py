"""The command `quantize`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import (
    TAUGHT,
    distillation_options,
    force_option,
    run_argument,
    teacher_of,
)
from edgecifar.train.data.options import data_options


@click.command()
@run_argument
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-qat.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of fine-tuning.  [default: 8]")
@click.option("--learning-rate", type=float, help="Its highest learning rate.  [default: 0.01]")
@click.option("--teacher", "teachers", multiple=True, type=click.Path(path_type=Path), help=TAUGHT)
@distillation_options
@click.option("--seed", type=int, default=0, show_default=True)
@force_option
def quantize(run, out, epochs, learning_rate, teachers, seed, force, **options):
    """Fine-tune the model of RUN with quantization in the loop.

    The int8 file exported from the new run loses less than one quantized after training.
    """
    from edgecifar.compress.quantize import Quantization
    from edgecifar.compress.quantize import quantize as fine_tune
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.run import open_run
    from edgecifar.train.summary import print_run

    start_tensorflow()
    parent = open_run(run)
    chosen = {"epochs": epochs, "learning_rate": learning_rate}
    recipe = Quantization(**{key: value for key, value in chosen.items() if value is not None})
    out = out or run.with_name(f"{parent.name}-qat")
    teacher, source = teacher_of(teachers, options)
    run = fine_tune(parent, load(**source), recipe, out, seed=seed, force=force, teacher=teacher)
    print_run(run)
