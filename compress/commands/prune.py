"""The command `prune`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import force_option, run_argument
from edgecifar.train.data.options import data_options


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
@click.option("--keep", multiple=True, metavar="LAYER", help="Leave this layer whole; repeatable.")
@click.option("--rounds", type=int, help="Rounds of removal and fine-tuning.  [default: 3]")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of the last fine-tuning.")
@click.option("--learning-rate", type=float, help="Its highest learning rate.  [default: 0.1]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-p50, say.")
@click.option("--seed", type=int, default=0, show_default=True)
@force_option
def prune(run, out, seed, force, data, image_size, skip_corrupt, **options):
    """Make the model of RUN smaller, or sparser, and fine-tune it.

    --macs, --params and --latency remove whole filters: a smaller dense model, faster everywhere.
    --sparsity and --two-four make single weights zero: the compressed file shrinks, nothing more.
    """
    from edgecifar.compress.pruning import prune_run, recipe_for
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.run import open_run

    recipe = recipe_for(**options)
    start_tensorflow()
    parent = open_run(run)
    dataset = load(data, image_size=image_size, skip_corrupt=skip_corrupt)
    verdict = prune_run(parent, dataset, recipe, out, seed=seed, force=force, report=_say)
    _print_verdict(verdict)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_verdict(verdict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", verdict.before.name, verdict.after.name, title="before and after")
    for row in verdict.rows():
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(verdict.text)
