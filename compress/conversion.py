"""What converters raise, told as an error of ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.keras_files import first_line

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
            f"the model can't be converted to {target} ({_told(error)}): replace the layer "
            "that does this, or export another format"
        ) from error


def _told(error: Exception) -> str:
    first = _PLACE.sub("", first_line(error))
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
