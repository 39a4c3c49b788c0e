"""Executed instructions of one inference on an emulated board: a cost that needs no board.

Unlike emulated times it is stable, and it tells models and files apart. It isn't a time: how
many instructions a cycle holds, and what waits for memory, only a board shows.

    python -m edgecifar.benchmarks.checks.instructions FILE… --board pi4 --json counts.json
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgecifar.benchmarks.devices.emulated import BOARDS, EmulatedDevice
from edgecifar.benchmarks.program import Program
from edgecifar.runtime import modelfile, results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing
from edgecifar.runtime.journal import Journal
from edgecifar.runtime.stored import journal_of, store
from edgecifar.runtime.tables import table

KIND = "instructions"  # of results
_PLUGIN = Path(__file__).parents[1] / "devices" / "count_instructions.c"
_WARM_UP, _COUNTED = 3, 20  # inferences
_QEMU_VERSIONS = range(5, 9)
_MARK = 0x45444745  # "EDGE" as the number of a process, which none has
# It marks for the plugin where counting begins and ends. Python's own instructions around an
# inference, some 10,000, are among those counted.
_GUEST = """
import os, sys
import numpy as np
from edgecifar.runtime import modelfile
from edgecifar.runtime.interpreters import choose_backend, open_unchecked
model = modelfile.read(sys.argv[1])
interpreter = open_unchecked(model, choose_backend(model.kind), threads=1)
image = np.zeros(interpreter.input.shape, interpreter.input.dtype)
mark, *counts = map(int, sys.argv[2:])
for times in counts:
    for _ in range(times):
        interpreter.run(image)
    try:
        os.getsid(mark)
    except ProcessLookupError:
        pass
"""


def count(path: Path, board: str) -> float:
    """Return the instructions that one inference of the model at ``path`` executes on a board.

    Raises:
        EdgecifarError: qemu with plugins or a compiler is missing, or the model doesn't run.

    """
    qemu = BOARDS[board].architecture.qemu.removesuffix("-static")
    for tool, package in ((qemu, "qemu-user"), ("cc", "gcc libc6-dev")):
        if not shutil.which(tool):
            raise EdgecifarError(f"counting instructions needs {tool}: `apt-get install {package}`")
    _require_plugins(qemu)
    python = EmulatedDevice.from_spec(f"emulated:{board}").python()
    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
        plugin = _compile(Path(folder))
        return _run(python, qemu, plugin, path) / _COUNTED


def _require_plugins(qemu: str) -> None:
    """Raise EdgecifarError unless the emulator takes plugins as ours is written."""
    done = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)", done.stdout)
    if not found or int(found[1]) not in _QEMU_VERSIONS:
        said = done.stdout.partition("\n")[0] or "an unknown version"
        raise EdgecifarError(
            f"counting instructions needs qemu {_QEMU_VERSIONS[0]} to {_QEMU_VERSIONS[-1]}, whose "
            f"plugins are of another kind than later ones', not {said}: Debian 12 has 7.2"
        )


def _compile(folder: Path) -> Path:
    library = folder / "count.so"
    options = ["-O2", "-shared", "-fPIC", f"-DMARK={_MARK}"]
    command = ["cc", *options, "-o", str(library), str(_PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgecifarError(f"the plugin doesn't compile ({done.stderr.strip()}): mend cc")
    return library


def _run(python: Path, qemu: str, plugin: Path, path: Path) -> int:
    result = plugin.with_name("count.txt")
    told = {"EDGECIFAR_QEMU": qemu, "QEMU_PLUGIN": str(plugin), "EDGECIFAR_COUNT": str(result)}
    done = subprocess.run(
        [str(python), "-c", _GUEST, str(path), *map(str, (_MARK, _WARM_UP, _COUNTED))],
        env={**os.environ, **told, "PYTHONHASHSEED": "0"},
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode or not result.exists():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EdgecifarError(f"{path}: it doesn't run under {qemu} ({last}): try `edgecifar info`")
    return int(result.read_text())


def measure(
    files: Sequence[Path],
    boards: Sequence[str],
    *,
    journal: Path | None = None,
    on_progress: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Count for each file and board; return a sealed result, the counts by board's name.

    Each count goes to the file `journal`, from which the same call goes on; the caller deletes it
    once the result is stored.
    """
    done = Journal(journal, KIND, on_progress)
    try:
        models = [_of_model(path, boards, done, on_progress) for path in files]
    finally:
        done.close()
    told = {name: f"{BOARDS[name].title}, {BOARDS[name].cpu}" for name in boards}
    content = {"schema": results.SCHEMA, "kind": KIND, "boards": told, "models": models}
    return results.seal(content)


def _of_model(
    path: Path, boards: Sequence[str], done: Journal, on_progress: Callable[[str], object]
) -> dict[str, Any]:
    model = modelfile.read(path)
    counts = {}
    for board in boards:
        what = {"sha256": model.sha256, "board": board}
        known = done.find("count", **what)
        if not known:
            on_progress(f"counting {path.name} on {BOARDS[board].title}")
            known = done.add("count", **what, instructions=round(count(path, board)))
        counts[board] = known["instructions"]
    told = {"file": path.name, "sha256": model.sha256, "payload_bytes": len(model.payload)}
    return {"name": model.name, **told, "instructions": counts}


def rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what a table has of a result: file names, and millions of instructions a board."""
    for model in result["models"]:
        counts = (model["instructions"][board] for board in result["boards"])
        yield (model["file"], *(f"{each / 1e6:.2f} M" for each in counts))


@click.command(cls=Program)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--board", "boards", multiple=True, type=click.Choice(list(BOARDS)),
              default=["pi4", "pi5"], show_default=True)  # fmt: skip
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the counts here.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def main(files: Sequence[Path], boards: Sequence[str], out: Path | None, force: bool) -> None:
    """Count the instructions of one inference of each FILE on emulated boards.

    With --json a run that was killed goes on where it stood.
    """
    if out:
        refuse_existing(out, force=force)
    journal = journal_of(out) if out else None
    result = measure(files, boards, journal=journal, on_progress=partial(click.echo, err=True))
    click.echo(table(("instructions of one inference", *boards), list(rows(result))))
    if out:
        store(out, result)


if __name__ == "__main__":
    main()
