"""Text for terminals: plain aligned tables, and nothing in it that would steer one."""

import re
from collections.abc import Sequence

# Control characters, ESC among them; line separators; and marks that turn the order of a line.
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of columns, the first aligned to the left and the others to the right.

    Every cell is made `printable`.
    """
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    r"""Escape what a terminal would obey instead of showing it: ESC becomes the four signs \x1b.

    Labels, descriptions and file names come with what was downloaded. To refuse them would take
    away a model that is sound but for its spelling, and JSON and Python get them as they are.
    """
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def human_bytes(count: float) -> str:
    """Bytes with a decimal unit: 95300 is "95.3 kB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
