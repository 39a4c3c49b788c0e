"""The commands `ahead pack` and `ahead take`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.train.data.options import data_options
from edgecifar.train.settings import LARGEST_SEED

if TYPE_CHECKING:
    from edgecifar.train.run import Run


@click.group()
def ahead() -> None:
    """Train on a machine that has a GPU and JAX, but no TensorFlow.

    `pack` compiles recipes here, `python machine.py .` in the package's folder carries them out
    there, `take` makes runs of what comes back, and `edgecifar run` goes on from these.
    """


@ahead.command()
@click.argument("names", metavar="RECIPE...", nargs=-1, required=True)
@data_options
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(0, LARGEST_SEED),
    multiple=True,
    help="Seed of RECIPEs that teach no other here; give it again for another.  [the recipe's]",
)
@click.option(
    "--out",
    default="package",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder to write, for copying to the machine.",
)
def pack(*, names: tuple[str, ...], seeds: tuple[int, ...], out: Path, **source) -> None:
    """Compile the training of RECIPEs, names or TOML files, teachers before their pupils.

    The package holds the images too. What follows training, int8 and all, is not in it.
    """
    from edgecifar.benchmarks.ahead.pack import pack as write
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load

    start_tensorflow()
    write(names, load(**source), out, seeds=seeds)
    click.echo(f"wrote {out}: copy it, then `python machine.py .` in it, where JAX is")


@ahead.command()
@click.argument("package", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder of the recipes' folders.",
)
def take(*, package: Path, runs: Path, **source) -> None:
    """Make runs of what the machine has finished of PACKAGE."""
    from edgecifar.benchmarks.ahead.take import take as read
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load

    start_tensorflow()

    def report(run: "Run") -> None:
        top1 = run.metrics["validation"]["top1"]
        click.echo(f"{run.path}: {top1:.2f} % of the validation images")

    if not read(package, load(**source), runs, report):
        click.echo("nothing is new: all results were taken already")
