"""Files that are either whole or not there: written under a temporary name, then renamed."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file, try_lock

_PARTIAL = ".partial-"
_LOCK = ".lock"


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file or folder beside `path`, then give it its name.

    The temporary name keeps the suffix, which libraries read as the format. A folder replaces an
    older one of the same name. All of it is on the disk before it has the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")
    try:
        write(partial)
        _sync(partial)
        if path.is_dir():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        _remove(partial)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an .npy file; unlike `np.save` it says with an OSError that the disk is full."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as stream:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(array.data)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from working in `folder`; EdgecifarError if one does already."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    while True:
        with path.open("w") as stream:
            if not try_lock(stream):
                raise EdgecifarError(
                    f"another process is at work in {folder}: wait until it ends, or end it"
                )
            if _is_at(path, stream):  # if not, its holder has removed it: others lock another
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _is_at(path: Path, stream: IO) -> bool:
    """Tell whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def named(path: Path) -> Path:
    """Return `path`, in full if it ends in `.` or `..`: its last part is a name then."""
    return path if path.name.strip(".") else path.resolve()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_idle(folder: Path) -> None:
    """Raise EdgecifarError if a process is at work in `folder` or in any folder inside it."""
    for lock in list(folder.rglob(_LOCK)):
        with alone_in(lock.parent):
            pass


def discard(folder: Path) -> None:
    """Remove a folder, if it is there, and what is left where a kill interrupted that before.

    It loses its name first, so that a kill leaves it whole or not there. Of a link the folder
    behind it is emptied.
    """
    if folder.is_symlink():
        behind = folder.resolve()
        discard(behind)
        behind.mkdir(parents=True)
        return
    doomed = folder.with_name(f"{_PARTIAL}{folder.name}")
    _remove(doomed)
    if folder.exists():
        folder.rename(doomed)
        _remove(doomed)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left unfinished in `folder`."""
    for partial in folder.glob(f"{_PARTIAL}*"):
        _remove(partial)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON, with a one-line error that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EdgecifarError(f"{path} is missing") from error
    except ValueError as error:
        raise EdgecifarError(f"{path} is not valid JSON: {error}") from error


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write dicts of equal keys as CSV, whole or not at all."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
