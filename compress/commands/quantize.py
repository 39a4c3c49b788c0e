"""The command `quantize`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import (
    TAUGHT,
    distillation_of,
    distillation_options,
    force_option,
    open_with_teachers,
)
from edgecifar.train.adopt.options import run_argument, say
from edgecifar.train.data.options import data_options
from edgecifar.train.settings import LARGEST_SEED


@click.command()
@run_argument
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-qat, say.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of fine-tuning.  [default: 8]")
@click.option(
    "--learning-rate",
    type=float,
    help="Its peak.  [default: 0.01, less with batches below 256; with Adam 0.0001]",
)
@click.option(
    "--keep-float", multiple=True, metavar="LAYER", help="Leave this layer in float; repeatable."
)
@click.option("--teacher", "teachers", multiple=True, type=click.Path(path_type=Path), help=TAUGHT)
@distillation_options
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@force_option
def quantize(run, pixels, out, epochs, learning_rate, keep_float, teachers, seed, force, **options):
    """Fine-tune the model of RUN with quantization in the loop.

    The int8 file exported from the new run often loses less than one quantized after training: the
    table at the end says whether it does.
    """
    from edgecifar.compress.commands.summary import print_verdict
    from edgecifar.compress.quantize import Quantization
    from edgecifar.compress.steps import take_and_judge
    from edgecifar.train.backend import start_tensorflow

    distillation = distillation_of(options, taught=bool(teachers))
    chosen = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "keep_float": keep_float or None,
    }
    recipe = Quantization(**{key: value for key, value in chosen.items() if value is not None})
    start_tensorflow()
    parent, teacher, dataset = open_with_teachers(
        run, teachers, distillation, pixels, options, beside=out
    )
    how = {"seed": seed, "force": force, "teacher": teacher, "report": say}
    print_verdict(take_and_judge(recipe, parent, dataset, out, **how))
