"""The options by which every command is told its data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class ImageSize(click.ParamType):
    """`N` or `HxW` on the command line, (height, width) in the program."""

    name = "N|HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (height, width), both at least 1."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,4})(?:[xX]([1-9]\d{0,4}))?", str(value))
        if not match:
            self.fail(f"'{value}' is not a size: give pixels as 96, or as 96x128", param, ctx)
        return int(match[1]), int(match[2] or match[1])


def data_options(command: _Command) -> _Command:
    """Add --data, --image-size and --skip-corrupt: `load`'s first three parameters."""
    options = (
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            help="Folder or zip of class folders, .npz, CIFAR archive, or cifar10, cifar100, "
            "digits. Default: $EDGECIFAR_DATA, then CIFAR-10 by download, then digits.",
        ),
        click.option(
            "--image-size", type=ImageSize(), help="Scale all images to N, or height x width."
        ),
        click.option("--skip-corrupt", is_flag=True, help="Leave out images that can't be read."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def typed(source: Mapping[str, Any]) -> str:
    """Return the options of `data_options` as one would type them, with a space before each."""
    data, size = source["data"], source["image_size"]
    parts = (
        f" --data {shlex.quote(str(data))}" if data else "",
        f" --image-size {size[0]}x{size[1]}" if size else "",
        " --skip-corrupt" if source["skip_corrupt"] else "",
    )
    return "".join(parts)
