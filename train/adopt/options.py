"""The argument by which a command is given a run, or a model file that becomes one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from edgecifar.train.zoo.options import RunPath

_Command = TypeVar("_Command", bound=Callable[..., Any])

pixels_option = click.option(
    "--pixels",
    metavar="SCALE",
    help="What a model file takes: 0..255, 0..1, -1..1, imagenet, caffe, edgecifar, or mean/scale "
    "of pixels.  [as its layers show or trial finds]",
)


def run_argument(command: _Command) -> _Command:
    """Add the argument RUN and the option --pixels, the first two parameters of `open_given`."""
    return click.argument("run", type=RunPath())(pixels_option(command))


def open_given(
    run: Path, pixels: str | None, source: dict[str, Any], *, beside: Path | None = None
) -> tuple:
    """Return the run that a command was given, and its data; see `open_or_adopt`.

    `source` are the values of `data_options`.
    """
    from edgecifar.train.adopt.adoption import open_or_adopt
    from edgecifar.train.data import load

    return open_or_adopt(run, partial(load, **source), pixels=pixels, beside=beside, report=say)


def say(text: str) -> None:
    """Report progress."""
    click.echo(text, err=True)
