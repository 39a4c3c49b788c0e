"""Keep what native libraries print on stderr away from the user's terminal."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import BinaryIO

# Not all that begins with INFO: the program that opens a model may log so itself.
_INFORMATION = re.compile(rb"INFO: .*(TensorFlow Lite|LiteRT|[Dd]elegate)")
_NOISE = (b"I0000", b"WARNING: All log messages before absl")
_NO_GPU = b"failed call to cuInit"  # how TensorFlow says that a machine has none
_lock = RLock()


@contextmanager
def quiet_stderr(*noise: bytes) -> Iterator[None]:
    """Hold back file descriptor 2 and print afterwards all but the lines of mere information.

    ``noise`` are further beginnings of lines to leave out.

    TensorFlow Lite's logger writes "INFO: Created TensorFlow Lite XNNPACK delegate" straight to
    the descriptor and has no switch that Python can reach. The descriptor belongs to the whole
    process, so keep the block short.
    """
    with _lock:
        try:
            file, saved = _nameless_file(), os.dup(2)
        except OSError:  # no folder can be written to; or a daemon has closed the descriptor
            yield
            return
        with file as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                held.seek(0)
                kept = [line for line in held if not _is_noise(line, noise)]
                os.write(2, b"".join(kept))


def _nameless_file() -> BinaryIO:
    """Open a file in memory, where there are such: a container may have no temporary folder."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def _is_noise(line: bytes, more: tuple[bytes, ...]) -> bool:
    if line.startswith(_NOISE + more) or _NO_GPU in line:
        return True
    return not line.strip() or bool(_INFORMATION.match(line))
