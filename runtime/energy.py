"""Energy of an inference, where the machine measures it.

Intel's and AMD's RAPL counters through Linux's powercap, which root may read, and the power
management chip of the Raspberry Pi 5. Both count the whole board or package: what the machine
draws at rest is told beside it.
"""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgecifar.runtime.errors import EdgecifarError

_ROOT = Path("/")
_POWERCAP = "sys/class/powercap"
_WINDOWS = 5  # of so many seconds each
_WINDOW_SECONDS = 0.4
_PMIC_SECONDS = 0.05  # between two readings; one takes the firmware some milliseconds
_PMIC_LINE = re.compile(r"^\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=([\d.]+)[AV]", re.M)


@dataclass(frozen=True)
class Energy:
    """Millijoules of one call: median, least and most of some windows, and without the rest's."""

    median: float
    low: float
    high: float
    above_idle: float
    idle_watts: float
    source: str


class NoReadingError(EdgecifarError):
    """The machine's meter no longer answers."""


class Meter(Protocol):
    """Something that tells how much energy passed while work was done."""

    source: str

    def joules(self, work: Callable[[], object]) -> float:
        """Return the joules that the machine took while ``work`` ran.

        Raises:
            NoReadingError: it doesn't answer.

        """


def find_meter(root: Path = _ROOT) -> "Meter | None":
    """Return the machine's meter, or None where it has none or doesn't let us read it."""
    rapl = Rapl.find(root)
    if rapl:
        return rapl
    return Pmic() if Pmic.is_there() else None


def measure(call: Callable[[], object], call_ns: float, meter: Meter) -> Energy:
    """Measure the energy of a call that takes about ``call_ns`` nanoseconds.

    Raises:
        NoReadingError: the meter doesn't answer.

    """
    repeats = max(1, round(_WINDOW_SECONDS * 1e9 / max(call_ns, 1.0)))

    def work() -> None:
        for _ in range(repeats):
            call()

    start = time.perf_counter()
    idle = meter.joules(lambda: time.sleep(_WINDOW_SECONDS)) / (time.perf_counter() - start)
    gross, net = [], []
    for _ in range(_WINDOWS):
        start = time.perf_counter()
        joules = meter.joules(work)
        rest = idle * (time.perf_counter() - start)
        gross.append(1e3 * joules / repeats)
        net.append(1e3 * max(0.0, joules - rest) / repeats)
    return Energy(
        float(np.median(gross)), min(gross), max(gross), float(np.median(net)), idle, meter.source
    )


def _is_package(zone: Path) -> bool:
    """Tell a package from its parts, and from `psys`, which counts all of the board once more."""
    try:
        return zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
    except OSError:
        return False


class Rapl:
    """The processor packages' own counters, in microjoules, which overflow."""

    source = "RAPL, processor package"

    def __init__(self, zones: tuple[Path, ...]):
        self._zones = zones
        self._spans = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]

    @classmethod
    def find(cls, root: Path) -> "Rapl | None":
        """Return the counters of all packages, or None if there are none to be read."""
        zones = [zone for zone in (root / _POWERCAP).glob("*rapl:*") if _is_package(zone)]
        try:
            for zone in zones:
                int((zone / "energy_uj").read_text())
            return cls(tuple(sorted(zones))) if zones else None
        except (OSError, ValueError):
            return None

    def joules(self, work: Callable[[], object]) -> float:
        """See `Meter`."""
        before = self._read()
        work()
        after = self._read()
        pairs = zip(before, after, self._spans, strict=True)
        return sum((b - a) % (span + 1) for a, b, span in pairs) / 1e6

    def _read(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self._zones]


class Pmic:
    """The Raspberry Pi 5's power chip: volts and amperes of each rail, by `vcgencmd`."""

    source = "PMIC of the Raspberry Pi 5, sum of the rails"

    @staticmethod
    def is_there() -> bool:
        """Whether this machine answers with any rail."""
        return bool(shutil.which("vcgencmd")) and bool(watts(_read_pmic()))

    def joules(self, work: Callable[[], object]) -> float:
        """See `Meter`; mean power of readings taken meanwhile, times the time."""
        readings, over = [], threading.Event()

        def sample() -> None:
            while not over.wait(_PMIC_SECONDS):
                readings.append(watts(_read_pmic()))  # 0 where it doesn't answer

        sampler = threading.Thread(target=sample, daemon=True)
        start = time.perf_counter()
        sampler.start()
        work()
        seconds = time.perf_counter() - start
        over.set()
        sampler.join()
        answered = [reading for reading in readings if reading] or [watts(_read_pmic())]
        if not any(answered):
            raise NoReadingError("vcgencmd no longer tells what the board draws")
        return float(np.mean(answered)) * seconds


def watts(text: str) -> float:
    """Sum current times voltage over the rails of `vcgencmd pmic_read_adc`; 0.0 for none."""
    found: dict[str, dict[str, float]] = {}
    for rail, quantity, value in _PMIC_LINE.findall(text):
        found.setdefault(rail, {})[quantity] = float(value)
    return sum(rail["A"] * rail["V"] for rail in found.values() if len(rail) == 2)


def _read_pmic() -> str:
    try:
        done = subprocess.run(
            ["vcgencmd", "pmic_read_adc"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
