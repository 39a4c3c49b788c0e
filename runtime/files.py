"""Write files so that a crash, a full disk or a Ctrl-C leaves the old one whole."""

import errno
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from edgecifar.runtime.errors import EdgecifarError


def cache_folder() -> Path:
    """Return $EDGECIFAR_CACHE, or edgecifar below $XDG_CACHE_HOME or ~/.cache, as absolute path.

    Raises:
        RuntimeError: the user has no home.

    """
    chosen = os.environ.get("EDGECIFAR_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return base.expanduser().absolute() / "edgecifar"


def replace_file(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write ``data`` under a temporary name beside ``path``, then rename it.

    A link stays one: the file that it leads to is replaced. ``mode`` are its permissions, by
    default those of the file that it replaces; until the renaming only its owner can read it.

    Raises:
        EdgecifarError: the folder doesn't exist.
        OSError: the disk is full, or the folder can't be written to.

    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise EdgecifarError(f"{path.parent}: no such folder: create it first")
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, _mode_of(path) if mode is None else mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def try_lock(stream: IO) -> bool:
    """Lock an open file for this process; False if another holds it.

    The lock goes with the file's closing, or with the process however it ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # where files can't be locked, as on some network disks
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def wait_for_lock(stream: IO, seconds: int, on_wait: Callable[[], object]) -> bool:
    """Lock an open file for this process once nobody else holds it; False after ``seconds``.

    ``on_wait`` is called each second.
    """
    for _ in range(seconds):
        if try_lock(stream):
            return True
        on_wait()
        time.sleep(1)
    return False


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise EdgecifarError if ``path`` exists, but for a file where the user said ``--force``."""
    refuse_special(path)
    if path.exists() and not force:
        raise EdgecifarError(f"{path} exists: --force overwrites it")


def refuse_special(path: Path) -> None:
    """Raise EdgecifarError for a folder, a device or a pipe, in whose place no file should come."""
    if path.exists() and not path.is_file():
        raise EdgecifarError(f"{path} exists and is no file: give another name")


def _mode_of(path: Path) -> int:
    """Permissions of the file to be replaced, or those that the umask leaves a new one."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
