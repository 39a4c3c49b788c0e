"""The timed part of a bench: rounds with a journal, until they are enough, and energy."""

import base64
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime import energy, environment
from edgecifar.runtime.candidates import Candidate, Images, call_of, loader_of
from edgecifar.runtime.journal import Journal
from edgecifar.runtime.results import derive_from_rounds
from edgecifar.runtime.statistics import latency, median_of, ratio, round_medians
from edgecifar.runtime.timing import Samples, TimingPlan, time_interleaved

if TYPE_CHECKING:
    from edgecifar.runtime.benchmark import Progress, Settings

_ROUNDS_TO_TELL = 7  # in each half: fewer have no interval of their own


def measure_rounds(
    rows: Sequence[Candidate],
    images: Images,
    settings: "Settings",
    done: Journal,
    on_progress: "Progress",
) -> None:
    """Time the loaded rows by turns and write latency, ratio and energy into their results."""
    plan, loaded = settings.plan, [row for row in rows if row.is_loaded]
    if not loaded:
        return
    calls = [call_of(row, images) for row in loaded]
    earlier = [[_unpack(text) for text in record["times"]] for record in done.every("round")]
    watch = _Watch(done)

    def on_round(times: list[np.ndarray]) -> None:
        done.add("round", times=[_pack(array) for array in times])
        watch.note()
        on_progress(f"round {len(done.every('round'))}{_goal(plan)}")

    on_progress("warming up")
    first = 0 if rows[0].is_loaded else None
    samples = time_interleaved(
        calls,
        plan,
        renew=[loader_of(row, images) for row in loaded],
        done=[list(rounds) for rounds in zip(*earlier, strict=True)] or None,
        on_round=on_round,
        enough=lambda samples: not too_wide(samples, plan, first),
    )
    for row, rounds in zip(loaded, samples, strict=True):
        row.result["latency_us"] = asdict(latency(rounds))
        row.result["rounds_us"] = [round(float(value), 3) for value in round_medians(rounds)]
        if first is not None:
            row.result["ratio"] = asdict(ratio(rounds, samples[first]))
    derive_from_rounds(row.result for row in loaded)  # which are rounded: as whoever reads it will
    names = [row.result["name"] for row in loaded]
    watch.conclude([*too_wide(samples, plan, first), *unsteady(names, samples, first)])
    if settings.energy:
        _energies(loaded, calls, done, on_progress)


class _Watch:
    """Writes down after each round what makes the times of this session doubtful.

    The last record holds all: what passed, such as throttling, and how much else ran in the end.
    """

    def __init__(self, done: Journal):
        self._done, self._start = done, done.find("start")["environment"]
        if done.every("state"):  # resumed: the clock is as it is now, the governor should be too
            governor = self._start.get("governor")
            self._start = self._start | environment.state() | {"governor": governor}
        self._usage, self._session = environment.usage(), uuid.uuid4().hex[:8]
        self._states: list[dict[str, Any]] = []
        self._record: dict[str, Any] | None = None  # of the last round, if there was any

    def note(self) -> None:
        """Write down the state after a round."""
        self._states.append(environment.state())
        others = self._usage.others(environment.usage())
        doubts = environment.doubts(self._start, *self._states) + environment.crowding(others)
        self._record = {"after": self._states[-1], "doubts": doubts}
        self._done.add("state", session=self._session, **self._record)

    def conclude(self, more: Sequence[str]) -> None:
        """Write down further doubts; what ran since the last round is none."""
        if more:
            record = self._record or {"after": environment.state(), "doubts": []}
            record = record | {"doubts": [*record["doubts"], *more]}
            self._done.add("state", session=self._session, **record)


def too_wide(samples: Samples, plan: TimingPlan, first: int | None) -> list[str]:
    """Say whose interval is wider than asked."""
    if plan.precision is None:
        return []
    found = [median_of(each) for each in _measured_by(first, samples)]
    widest = max((each.high - each.low) / 2 / each.value for each in found)
    if widest <= plan.precision:
        return []
    return [
        f"after {len(samples[0])} rounds an interval is still {100 * widest:.1f} % to either "
        f"side, wider than the {100 * plan.precision:g} % asked for"
    ]


def unsteady(names: Sequence[str], samples: Samples, first: int | None) -> list[str]:
    """Say who took longer or shorter in the second half of the rounds, beyond chance.

    What holds of one half only would be told as if it held of both.
    """
    half = len(samples[0]) // 2
    if half < _ROUNDS_TO_TELL:
        return []
    found = []
    for name, rounds in zip(names, _measured_by(first, samples), strict=True):
        early, late = median_of(rounds[:half]), median_of(rounds[half:])
        if early.high < late.low or late.high < early.low:
            found.append(
                f"{name} took {late.value / early.value:.2f} times as long in the second half of "
                "the rounds as in the first"
            )
    return found


def _measured_by(first: int | None, samples: Samples) -> list[np.ndarray]:
    """Return each one's latency in each round, as a multiple of the first one's if there is one.

    Of a single one it is in microseconds.
    """
    medians = [round_medians(rounds) for rounds in samples]
    if first is None or len(medians) == 1:
        return medians
    return [each / medians[first] for each in medians]


def _goal(plan: TimingPlan) -> str:
    if plan.precision is None:
        return f" of {plan.rounds}"
    return f" (at most {plan.most_rounds}, until {100 * plan.precision:g} % are reached)"


def _energies(
    rows: Sequence[Candidate],
    calls: Sequence[Callable[[], object]],
    done: Journal,
    on_progress: "Progress",
) -> None:
    meter = energy.find_meter()
    for number, (row, call) in enumerate(zip(rows, calls, strict=True)):
        known = done.find("energy", row=number)
        if known is None and meter:
            on_progress(f"energy of {row.path.name}")
            known = done.add("energy", row=number, value=_energy(row, call, meter))
        row.result["energy_mj"] = known and known["value"]


def _energy(
    row: Candidate, call: Callable[[], object], meter: energy.Meter
) -> dict[str, Any] | None:
    try:
        return asdict(energy.measure(call, 1e3 * row.result["latency_us"]["median"], meter))
    except energy.NoReadingError:
        return None


def _pack(times: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(times.astype("<i8").tobytes(), 1)).decode()


def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").astype(np.int64)
