"""Progress bars, on stderr so that results can be piped."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecifar.train.console import plain_console

if TYPE_CHECKING:
    from rich.progress import Progress

Report = Callable[[str], object]  # takes a line that says what is being done


def ignore(text: str) -> None:
    """Report nothing."""


def progress() -> "Progress":
    """Return a bar with description, share done, time passed and time left."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = plain_console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
