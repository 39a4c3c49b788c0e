"""The command `prune`."""

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
@click.option("--macs", type=float, help="Share of multiply-accumulates to leave, such as 0.5.")
@click.option("--params", type=float, help="Share of parameters to leave.")
@click.option("--latency", type=float, help="Share of int8 latency to leave, measured here.")
@click.option("--sparsity", type=float, help="Share of single weights to make zero.")
@click.option("--two-four", is_flag=True, help="Make two of four neighbouring weights zero.")
@click.option(
    "--importance",
    type=click.Choice(["taylor", "bn", "l1"]),
    help="What filters are judged by.  [default: taylor]",
)
@click.option("--multiple", type=int, help="Leave multiples of this many filters.  [default: 8]")
@click.option(
    "--keep", multiple=True, metavar="LAYER", help="Leave this layer as it is; repeatable."
)
@click.option("--rounds", type=int, help="Rounds of removal and fine-tuning.  [default: 3]")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Epochs of the last fine-tuning.  [default: 20; of zeros 15, after 10 in which they grow]",
)
@click.option(
    "--learning-rate",
    type=float,
    help="Its peak.  [default: 0.1, less with batches below 256; with Adam 0.001]",
)
@click.option("--teacher", "teachers", multiple=True, type=click.Path(path_type=Path), help=TAUGHT)
@distillation_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-p50, say.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@force_option
def prune(run, pixels, out, teachers, seed, force, data, image_size, skip_corrupt, **options):
    """Make the model of RUN smaller, or sparser, and fine-tune it.

    --macs, --params and --latency remove whole filters: a smaller dense model, which most
    processors run faster.
    --sparsity and --two-four make single weights zero: the compressed file shrinks, nothing more.
    RUN itself may be the --teacher.
    """
    from edgecifar.compress.commands.pruning import recipe_for
    from edgecifar.compress.commands.summary import print_verdict
    from edgecifar.compress.steps import take_and_judge
    from edgecifar.train.backend import start_tensorflow

    distillation = distillation_of(options, taught=bool(teachers))
    recipe = recipe_for(**options)
    start_tensorflow()
    source = {"data": data, "image_size": image_size, "skip_corrupt": skip_corrupt}
    parent, teacher, dataset = open_with_teachers(
        run, teachers, distillation, pixels, source, beside=out
    )
    how = {"seed": seed, "force": force, "teacher": teacher, "report": say}
    print_verdict(take_and_judge(recipe, parent, dataset, out, **how))
