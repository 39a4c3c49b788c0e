"""The timing loop that every device runs.

Models are measured in rounds: in each round every model gets one time slice, in an order that
turns from round to round, so that a change of clock or temperature meets them all alike.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.errors import EdgecifarError

_REWARM_CALLS = 2  # untimed at the start of a slice: the other models have emptied the caches
_MAX_CALLS = 1000  # a slice of a very fast model
_FEWEST_WARM_UP_CALLS = 5


@dataclass(frozen=True)
class TimingPlan:
    """How long to measure: ``rounds`` slices of ``slice_ms`` a model after ``warm_up_ms``."""

    rounds: int = 20
    slice_ms: float = 25.0
    warm_up_ms: float = 250.0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.slice_ms <= 0 or self.warm_up_ms < 0:
            raise EdgecifarError("rounds and slices must be positive: leave them at their defaults")


def time_interleaved(
    calls: Sequence[Callable[[], object]],
    plan: TimingPlan | None = None,
    *,
    on_round: Callable[[int], object] | None = None,
) -> list[list[np.ndarray]]:
    """Measure calls against each other.

    Returns:
        For each call one int64 array a round, with the nanoseconds of each execution.

    """
    plan = plan or TimingPlan()
    repeats = [_repeats(_warm_up(call, plan.warm_up_ms), plan.slice_ms) for call in calls]
    samples: list[list[np.ndarray]] = [[] for _ in calls]
    collecting = gc.isenabled()
    gc.disable()  # a collection would fall on one call of thousands and be taken for its p99
    try:
        for number in range(plan.rounds):
            for turn in range(len(calls)):
                which = (turn + number) % len(calls)
                samples[which].append(_slice(calls[which], repeats[which]))
            if on_round:
                on_round(number + 1)
    finally:
        if collecting:
            gc.enable()
    return samples


def _warm_up(call: Callable[[], object], milliseconds: float) -> float:
    """Run the call until it has had its time; nanoseconds of its median execution."""
    end = time.perf_counter_ns() + milliseconds * 1e6
    taken = []
    while len(taken) < _FEWEST_WARM_UP_CALLS or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return float(np.median(taken))


def _repeats(call_ns: float, slice_ms: float) -> int:
    return max(1, min(_MAX_CALLS, round(slice_ms * 1e6 / max(call_ns, 1.0))))


def _slice(call: Callable[[], object], repeats: int) -> np.ndarray:
    clock = time.perf_counter_ns
    for _ in range(_REWARM_CALLS):
        call()
    taken = [0] * repeats
    for index in range(repeats):
        start = clock()
        call()
        taken[index] = clock() - start
    return np.array(taken, dtype=np.int64)
