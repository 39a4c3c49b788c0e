"""The far end of a bench: runs in a folder that a workstation has filled.

``python -m edgecifar.runtime.agent FOLDER`` reads FOLDER/request.json, measures, and leaves
FOLDER/result.json. It tells what it does on standard output, one JSON object a line, the last
with ``done`` or ``error``. Started again in the same folder it goes on where it stood.
"""

import json
import os
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.runtime.benchmark import Settings, bench
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file, wait_for_lock
from edgecifar.runtime.labelled import Labelled
from edgecifar.runtime.results import as_bytes
from edgecifar.runtime.timing import TimingPlan

REQUEST, RESULT, JOURNAL = "request.json", "result.json", "journal"
_WAIT_SECONDS = 3600  # for another bench: times of two at once are of neither


def run(folder: Path) -> None:
    """Carry out the request in ``folder``; nothing is measured twice, or beside another bench.

    Raises:
        EdgecifarError: as `benchmark.bench` does, or another bench takes more than an hour.

    """
    request = json.loads((folder / REQUEST).read_text())
    settings = settings_from(request["settings"])
    with (folder.parent / "lock").open("w") as lock:
        waiting = partial(_tell, progress="waiting for another bench on this device")
        if settings.timed and not wait_for_lock(lock, _WAIT_SECONDS, waiting):
            raise EdgecifarError("another bench goes on on this device: wait for its end")
        if not (folder / RESULT).exists():
            _measure(folder, request, settings)


def _measure(folder: Path, request: dict[str, Any], settings: Settings) -> None:
    store = folder.parent / "store"
    files = [_named(folder, store, number, item) for number, item in enumerate(request["files"])]
    try:
        result = bench(
            files,
            data=_images(store, request["data"]),
            settings=settings,
            journal=folder / JOURNAL,
            on_progress=lambda text: _tell(progress=text),
        )
    except EdgecifarError:
        if (folder / RESULT).exists():  # of an earlier run, which has finished just now
            return
        raise
    replace_file(folder / RESULT, as_bytes(result))
    (folder / JOURNAL).unlink(missing_ok=True)  # an earlier run may have finished just now


def settings_from(values: dict[str, Any]) -> Settings:
    """Turn `dataclasses.asdict` of settings, as JSON holds it, back into them."""
    known = {field.name: values[field.name] for field in fields(Settings)}
    lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
    return Settings(**known | lists | {"plan": TimingPlan(**known["plan"])})


def _named(folder: Path, store: Path, number: int, item: dict[str, str]) -> Path:
    """Give a stored file the name that it has on the workstation."""
    path = folder / str(number) / item["name"]
    path.parent.mkdir(exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(os.path.relpath(store / item["stored"], path.parent))
    return path


def _images(store: Path, data: dict[str, Any] | None) -> dict[tuple[int, int], Labelled] | None:
    if data is None:
        return None
    found = {}
    for name in data["stored"]:
        with np.load(store / name, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        identity = tuple(data["classes"]), data["fingerprint"], data["name"]
        found[images.shape[1:3]] = Labelled(images, labels, *identity, of=data.get("of"))
    return found


def _tell(**message: object) -> None:
    print(json.dumps(message), flush=True)


def main(arguments: list[str]) -> int:
    """Run as a program: FOLDER, and for an emulator the program that starts this Python."""
    folder, *python = arguments
    if python:
        sys.executable = python[0]
    try:
        run(Path(folder))
    except BrokenPipeError:  # the workstation is gone: what is finished lies in the journal
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (EdgecifarError, OSError, MemoryError) as error:
        _tell(error=str(error) or type(error).__name__)
        return 1
    _tell(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
