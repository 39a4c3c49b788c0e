"""Kill commands at random moments, and look for files that are not whole.

    python tests/faults/kill9.py --count 50

Each stage (train, quantize, export, on digits) is run once to the end to learn how long it takes,
then killed with SIGKILL at random moments of that time, from a fresh start or from where the last
one was killed; a start that ends before its kill doesn't count. Every file under a final name must
then be whole; after the last kill the same command must finish.
"""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import click

from edgecifar.runtime import modelfile

_PARTIAL = (".partial-", ".")  # names that no reader takes for a result
_QUICK = ("--data", "digits", "--epochs", "2")


@dataclass(frozen=True)
class Stage:
    """A command, the folder that it fills, and what must be there when it has finished.

    What matches `sign` appears there in the midst of its work.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    result: str
    sign: str


@dataclass
class Tally:
    """What came of the kills."""

    killed: int = 0
    finished_first: int = 0
    torn: list[str] = field(default_factory=list)


def stages(folder: Path, architecture: str = "resnet8") -> list[Stage]:
    """Return the three stages, each on the run of the one before."""
    run, fine = folder / architecture, folder / f"{architecture}-qat"
    train = ("train", architecture, *_QUICK, "--out", str(run), "--batch-size", "64")
    quantize = ("quantize", str(run), *_QUICK, "--out", str(fine))
    export = ("export", str(fine), "--data", "digits", "--int8", "--force")
    exports, file = fine / "exports", f"{fine.name}-int8.tflite"
    return [
        Stage("train", train, run, "metrics.json", "history.csv"),
        Stage("quantize", quantize, fine, "metrics.json", "history.csv"),
        Stage("export", export, exports, file, ".partial-*"),
    ]


def start(stage: Stage) -> subprocess.Popen:
    """Start the stage's command."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgecifar.runtime", *stage.arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def finish(stage: Stage) -> float:
    """Run the stage to its end; return the seconds it took."""
    began = time.monotonic()
    process = start(stage)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-500:]
    assert (stage.folder / stage.result).exists()
    return time.monotonic() - began


def kill(stage: Stage, after: float) -> bool:
    """Start the stage and kill it after so many seconds; False if it had finished by then."""
    process = start(stage)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    return False


def kill_at_work(stage: Stage) -> None:
    """Start the stage and kill it as soon as its sign is there."""
    process = start(stage)
    while not any(stage.folder.glob(stage.sign)):
        assert process.poll() is None, process.communicate()[1].decode()[-500:]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended first"


def torn_files(folder: Path) -> list[str]:
    """Name the files under final names that can't be read to their end, and why."""
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(_PARTIAL) for part in inside):
            try:
                check(path)
            except Exception as error:  # TensorFlow, h5py and zipfile have their own
                found.append(f"{path}: {error!r}")
    return found


def check(path: Path) -> None:
    """Read a file of a kind that runs have to its end."""
    assert path.stat().st_size, "it is empty"
    if path.suffix in (".tflite", ".onnx"):
        assert modelfile.read(path).has_checksum
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".csv":
        text = path.read_text()
        rows = list(csv.reader(text.splitlines()))
        assert text.endswith("\n")
        assert len({len(row) for row in rows}) == 1
    elif path.suffix in (".npz", ".keras"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif path.suffix == ".h5":
        import h5py

        with h5py.File(path) as file:
            file.visititems(lambda _, item: item[...] if isinstance(item, h5py.Dataset) else None)
    elif path.name == "state.index":
        import numpy as np
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(path.with_suffix("")))
        for name in reader.get_variable_to_shape_map():
            np.asarray(reader.get_tensor(name))


def torture(folder: Path, count: int, seed: int = 0) -> Tally:
    """Kill the stages `count` times in all before their end, and finish each at the end."""
    rng, tally = random.Random(seed), Tally()
    for number, stage in enumerate(stages(folder)):
        seconds = finish(stage)
        shutil.rmtree(stage.folder)
        share = len(range(number, count, 3))
        while share:
            killed = kill(stage, rng.uniform(0.2, 1.0) * seconds)
            share -= killed
            tally.killed += killed
            tally.finished_first += not killed
            found = torn_files(folder)
            tally.torn += found
            what = f"killed, {share} to come" if killed else "finished first"
            print(f"{stage.name}: {what}", *found, flush=True)
            done = (stage.folder / stage.result).exists()  # a kill may come after the last file
            if stage.folder.exists() and (done or rng.random() < 0.5):
                shutil.rmtree(stage.folder)  # half the kills meet a run that was killed before
        finish(stage)
        tally.torn += torn_files(folder)
    return tally


@click.command()
@click.option("--count", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("kill9"))
def main(count: int, seed: int, folder: Path) -> None:
    """Kill train, quantize and export COUNT times in all."""
    tally = torture(folder, count, seed)
    click.echo(f"{tally.killed} killed, {tally.finished_first} finished before, {tally.torn} torn")
    sys.exit(bool(tally.torn))


if __name__ == "__main__":
    main()
