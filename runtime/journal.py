"""What a bench has finished so far, so that a killed one goes on where it stood.

An append-only file of JSON lines beside the result. The first line says which bench it belongs
to; a line that a kill or a full disk has torn is left out, with all that follows it.
"""

import json
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import wait_for_lock

_WAIT_SECONDS = 600  # for a process that lost its connection and still measures


def _is_there(stream: IO, path: Path) -> bool:
    """Tell whether an open file still has its name: its last user may have removed it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


class Journal:
    """Records of one bench; with no ``path`` they are only kept in memory.

    A file with another ``key`` belongs to another bench and is started anew.

    Raises:
        EdgecifarError: another process goes on writing to it.

    """

    def __init__(
        self, path: Path | None, key: str, on_wait: Callable[[str], object] = lambda text: None
    ):
        self._stream = None
        self.records: list[dict[str, Any]] = []
        if path is None:
            return
        self._stream = path.open("a+b")
        waiting = partial(on_wait, "waiting for an earlier run of this bench")
        if not wait_for_lock(self._stream, _WAIT_SECONDS, waiting):
            raise EdgecifarError(
                f"{path}: another process measures the same: end it, or wait for it"
            )
        if not _is_there(self._stream, path):
            raise EdgecifarError(f"{path}: another bench has ended there: start this one again")
        self.records, whole = _read(self._stream, key)
        self._stream.truncate(whole)
        if not whole:
            self._write({"key": key})

    @property
    def resumed(self) -> bool:
        """Whether there was something to go on with."""
        return bool(self.records)

    def find(self, kind: str, **fields: Any) -> dict[str, Any] | None:
        """Return the last record of this kind with these fields."""
        wanted = {"kind": kind, **fields}
        for record in reversed(self.records):
            if wanted.items() <= record.items():
                return record
        return None

    def every(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of this kind, oldest first."""
        return [record for record in self.records if record["kind"] == kind]

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Append a record, on the disk before this returns."""
        record = {"kind": kind, **fields}
        self.records.append(record)
        self._write(record)
        return record

    def close(self) -> None:
        """Keep the file, for a later run to go on with."""
        if self._stream:
            self._stream.close()

    def _write(self, record: dict[str, Any]) -> None:
        if self._stream is None:
            return
        text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        self._stream.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _read(stream: Any, key: str) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a file that belongs to ``key``, and how many bytes of it count."""
    stream.seek(0)
    records, whole = [], 0
    for line in stream:
        check, _, text = line.partition(b" ")
        if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text.rstrip(b"\n")):
            break
        records.append(json.loads(text))
        whole += len(line)
    if not records or records[0] != {"key": key}:
        return [], 0
    return records[1:], whole
