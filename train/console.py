"""The terminal, for what rich prints."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(*, stderr: bool = False) -> "Console":
    """Return rich's console that takes brackets, as paths and class names have, as they are."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False)
