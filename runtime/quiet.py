"""Keep what native libraries print on stderr away from the user's terminal."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_NOISE = (b"INFO:", b"I0000", b"WARNING: All log messages before absl")
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
            saved = os.dup(2)
        except OSError:  # a daemon may have closed it
            yield
            return
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                held.seek(0)
                kept = [line for line in held if not _is_noise(line, noise)]
                os.write(2, b"".join(kept))


def _is_noise(line: bytes, more: tuple[bytes, ...]) -> bool:
    return line.startswith(_NOISE + more) or _NO_GPU in line or not line.strip()
