"""What `Classifier.predict` costs beyond the interpreter, what a second core brings, and memory.

    python -m edgecifar.benchmarks.checks.overhead FILE…

Limits: 12 microseconds on one image over set_tensor, invoke, get_tensor; a batch 1.7 times faster
on two cores than on one, unless an inference is so short that this is only stated; memory that
100,000 predictions don't make grow.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edgecifar.benchmarks.program import Program
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.golden import draw
from edgecifar.runtime.probe import resident_bytes
from edgecifar.runtime.shipped import default_model
from edgecifar.runtime.tables import table
from edgecifar.runtime.timing import TimingPlan, time_interleaved

LIMIT_US, LIMIT_SPEED_UP, LIMIT_GROWTH = 12.0, 1.7, 2_000_000
_SHORT_US = 100.0  # of an inference so short that Python's own work between two shows: stated only
_BATCH = 256
_WARM_UP_PREDICTIONS, _PREDICTIONS = 5_000, 100_000


@dataclass(frozen=True)
class Overhead:
    """Microseconds over the bare loop, speed-up of a batch on two cores, growth in bytes."""

    bare_us: float
    extra_us: float
    speed_up: float
    growth_bytes: int | None


def measure(path: Path, *, rounds: int = 40, memory: bool = True) -> Overhead:
    """Measure a model file."""
    bare_us, extra_us = _single(path, rounds)
    growth = _growth(path) if memory else None
    return Overhead(bare_us, extra_us, _speed_up(path, rounds), growth)


def _single(path: Path, rounds: int) -> tuple[float, float]:
    """Median microseconds of the bare loop, and by how much a prediction is slower."""
    model = Classifier(path, threads=1)
    image = draw(0, *model.image_shape[:2])
    tensor, run = model.encode(image), model._first.run
    bare, ours = _interleaved([lambda: run(tensor), lambda: model.predict(image)], rounds, 25.0)
    # Round by round, so that a change of clock cancels out.
    extra = [np.median(b) - np.median(a) for a, b in zip(bare, ours, strict=True)]
    return float(np.median(np.concatenate(bare))) / 1e3, float(np.median(extra)) / 1e3


def _speed_up(path: Path, rounds: int) -> float:
    """How many times faster a batch is with two threads than with one."""
    models = [Classifier(path, threads=threads) for threads in (1, 2)]
    size = models[0].image_shape[:2]
    images = np.stack([draw(number, *size) for number in range(_BATCH)])
    calls = [lambda model=model: model.predict(images) for model in models]
    one, two = _interleaved(calls, rounds, 100.0)
    ratios = [np.median(a) / np.median(b) for a, b in zip(one, two, strict=True)]
    return float(np.median(ratios))


def _interleaved(
    calls: Sequence[Callable[[], object]], rounds: int, slice_ms: float
) -> list[list[np.ndarray]]:
    return time_interleaved(calls, TimingPlan(rounds=rounds, slice_ms=slice_ms))


def _growth(path: Path) -> int | None:
    """Bytes by which the resident set grows; None where the system doesn't tell it."""
    if not Path("/proc/self/status").exists():
        return None
    model = Classifier(path, threads=1)
    image = draw(0, *model.image_shape[:2])
    for _ in range(_WARM_UP_PREDICTIONS):
        model.predict(image)
    before = resident_bytes("VmRSS")
    for _ in range(_PREDICTIONS):
        model.predict(image)
    return resident_bytes("VmRSS") - before


def _problems(name: str, found: Overhead) -> list[str]:
    """Say what is over its limit."""
    checks = {
        f"{found.extra_us:.1f} us over the bare loop": found.extra_us > LIMIT_US,
        f"a batch is {found.speed_up:.2f} times as fast on two cores": (
            found.bare_us >= _SHORT_US and found.speed_up < LIMIT_SPEED_UP
        ),
        f"memory grew by {found.growth_bytes} bytes": (found.growth_bytes or 0) > LIMIT_GROWTH,
    }
    return [f"{name}: {text}" for text, failed in checks.items() if failed]


@click.command(cls=Program)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--rounds", type=click.IntRange(2), default=40, show_default=True)
@click.option("--memory/--no-memory", default=True, help="Also make 100,000 predictions.")
def main(files: tuple[Path, ...], rounds: int, memory: bool) -> None:
    """Measure each FILE; exit status 1 if one is over a limit."""
    rows, problems = [], []
    for path in files or (default_model(),):
        click.echo(f"measuring {path.name}", err=True)
        found = measure(path, rounds=rounds, memory=memory)
        growth = "" if found.growth_bytes is None else f"{found.growth_bytes / 1e3:.0f} kB"
        numbers = (found.bare_us, found.extra_us, found.speed_up)
        rows.append((path.stem, *(f"{number:.2f}" for number in numbers), growth))
        problems += _problems(path.stem, found)
    click.echo(table(("model", "bare us", "extra us", "two cores", "growth"), rows))
    for problem in problems:
        click.echo(f"over the limit: {problem}", err=True)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
