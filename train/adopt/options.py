"""The argument by which a command is given a run, or a model file that becomes one."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecifar.train.zoo.options import RunPath

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset
    from edgecifar.train.run import Run

_Command = TypeVar("_Command", bound=Callable[..., Any])

pixels_option = click.option(
    "--pixels",
    metavar="SCALE",
    help="What a model file takes: 0..255, 0..1, -1..1, imagenet, caffe, edgecifar, or mean/scale "
    "of pixels.  [as its layers show or trial finds]",
)
_RUN = (
    "RUN is the folder of a run, the name of a model that ships, or a trained Keras model from "
    "elsewhere: a .keras or .h5 file, or a SavedModel's folder."
)


def run_argument(command: _Command) -> _Command:
    """Add the argument RUN and the option --pixels, the first two parameters of `open_given`.

    The command's help then says what RUN may be.
    """
    command.__doc__ = f"{command.__doc__}\n    {_RUN}\n    "
    return click.argument("run", type=RunPath())(pixels_option(command))


def open_given(run: Path, pixels: str | None, source: dict[str, Any]) -> tuple["Run", "Dataset"]:
    """Return the run that a command was given, and its data; see `open_or_adopt`.

    `source` are the values of `data_options`.
    """
    (opened,), dataset = open_all((run,), pixels, source)
    return opened, dataset


def open_all(
    paths: Sequence[Path],
    pixels: str | None,
    source: dict[str, Any],
    *,
    beside: Path | None = None,
) -> tuple[tuple["Run", ...], "Dataset"]:
    """Return all runs that a command was given, at least one, and their data, loaded once.

    `pixels` holds for each that is a model file. Raises EdgecifarError if none is.
    """
    from edgecifar.train.adopt.adoption import open_or_adopt
    from edgecifar.train.adopt.files import is_model
    from edgecifar.train.data import load

    files = [path for path in paths if is_model(path)] or paths
    load_once = cache(partial(load, **source))
    runs = tuple(
        open_or_adopt(
            path,
            load_once,
            pixels=pixels if path in files else None,
            beside=beside,
            report=say,
        )[0]
        for path in paths
    )
    return runs, load_once()


def say(text: str) -> None:
    """Report progress."""
    click.echo(text, err=True)
