"""What converters raise, told as an error of ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from edgecifar.runtime.errors import EdgecifarError

# MLIR puts the Python stack in front of what it has to say, in nested parentheses.
_PLACE = re.compile(r"^.*error: (?:loc\(.*\): )?")
_LONGEST = 200  # characters


@contextmanager
def converting(target: str) -> Iterator[None]:
    """Raise EdgecifarError with the first line of whatever a conversion to `target` raises.

    Converters raise bare Exception, and each library kinds of its own. A want of disk or memory is
    none of the model's.
    """
    try:
        yield
    except (EdgecifarError, OSError, MemoryError):
        raise
    except Exception as error:
        raise EdgecifarError(
            f"the model can't be converted to {target} ({_first_line(error)}): replace the layer "
            "that does this, or export another format"
        ) from error


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    first = _PLACE.sub("", next(filter(None, lines), type(error).__name__))
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
