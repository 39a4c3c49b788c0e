"""The agent as a process of this machine, for devices that are made of it."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgecifar.benchmarks.devices.parcel import Parcel, parse_message
from edgecifar.runtime import results
from edgecifar.runtime.agent import REQUEST, RESULT
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file

UNUSED_DAYS = 30  # after which what benches had copied, or began and never finished, goes


def forget(place: Path) -> None:
    """Delete `place`, where a bench was, and what none has used beside it for a month."""
    shutil.rmtree(place, ignore_errors=True)
    cache = place.parent
    benches = (path for path in cache.glob("*") if path.is_dir() and path.name != "store")
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for path in (*cache.glob("store/*"), *benches):
        with contextlib.suppress(OSError):  # another process may have been quicker
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def lay_out(folder: Path, parcel: Parcel, **changed: Any) -> None:
    """Lay out what the agent reads: the request in `folder`, files in the store beside it.

    `changed` are settings that differ from the parcel's.
    """
    store = folder.parent / "store"
    store.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for name, path in parcel.files.items():
        if not (store / name).exists():
            partial = store / f".{os.getpid()}-{name}"
            shutil.copyfile(path, partial)
            partial.rename(store / name)
        os.utime(store / name)  # of its last use
    request = parcel.request | {"settings": parcel.request["settings"] | changed}
    replace_file(folder / REQUEST, json.dumps(request).encode())


def run_agent(
    command: Sequence[str], folder: Path, on_progress: Callable[[str], object], *, what: str
) -> dict[str, Any]:
    """Run the `command` that starts an agent in `folder`, and return its result.

    The paths in `command` are absolute ones.

    Raises:
        EdgecifarError: what the agent says, or that `what`, the process, failed.

    """
    ends: dict[str, Any] = {}
    # A file: a pipe that nobody empties stops whoever fills it.
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            command,
            cwd=folder,  # which has no modules: Python takes those of the current one first
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        ) as process,
    ):
        try:
            for message in map(parse_message, process.stdout):
                if "progress" in message:
                    on_progress(message["progress"])
                else:
                    ends.update(message)
            process.wait()
        except BaseException:
            process.terminate()
            raise
        stderr.seek(0)
        said = stderr.read().decode(errors="replace").strip().splitlines()
    if "error" in ends:
        raise EdgecifarError(ends["error"])
    if process.returncode or "done" not in ends:
        why = said[-1] if said else f"exit status {process.returncode}"
        raise EdgecifarError(f"{what} failed ({why})")
    return results.read(folder / RESULT)
