"""The timing loop that every device runs.

Models are measured in rounds: in each round every model gets one time slice, in an order that
turns from round to round, so that a change of clock or temperature meets them all alike. Each
round can load the models anew: where their weights come to lie in memory moves a latency by
several tenths of a percent, far more than the noise of one load, and only several loads show it.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.errors import EdgecifarError

_REWARM_CALLS = 2  # untimed at the start of a slice: the other models have emptied the caches
_FIRST_CALLS = 10  # untimed after loading
_MAX_CALLS = 1000  # a slice of a very fast model
_FEWEST_WARM_UP_CALLS = 5
_WARM_UP_WINDOWS = 4  # in which the warm-up time is cut, to see whether calls still get faster
_WARM_UP_LIMIT = 8  # times the warm-up time: what never settles is measured all the same
_STABLE = 0.02  # share by which one window's median may still lie below the one before

Samples = list[list[np.ndarray]]


@dataclass(frozen=True)
class TimingPlan:
    """How long to measure.

    ``rounds`` slices of ``slice_ms`` a model, after a warm-up of ``warm_up_ms`` or as long as
    calls get faster. With a ``precision`` (0.02: 2 % to either side) rounds go on until the
    interval of every ratio is as narrow as that, or ``most_rounds`` are done.
    """

    rounds: int = 20
    slice_ms: float = 25.0
    warm_up_ms: float = 250.0
    precision: float | None = None
    most_rounds: int = 400

    def __post_init__(self) -> None:
        if self.rounds < 2:  # one tells nothing of how far rounds differ
            raise EdgecifarError(f"rounds is {self.rounds}: give 2 or more, better 7 or more")
        if self.slice_ms <= 0 or self.warm_up_ms < 0:
            raise EdgecifarError("slices must be positive: leave them at their defaults")
        if self.precision is not None and not 0.001 <= self.precision < 1:
            raise EdgecifarError(
                f"a precision of {100 * self.precision:g} % is out of reach: give 0.1 % to 99 %"
            )


def time_interleaved(
    calls: Sequence[Callable[[], object]],
    plan: TimingPlan,
    *,
    renew: Sequence[Callable[[], Callable[[], object]]] | None = None,
    done: Samples | None = None,
    on_round: Callable[[list[np.ndarray]], object] | None = None,
    enough: Callable[[Samples], bool] = lambda samples: True,
) -> Samples:
    """Measure calls against each other.

    ``renew`` makes each call anew before every round, in memory that lies elsewhere. ``done``
    are rounds of an earlier run to go on from; ``on_round`` gets every new round, one array a
    call. After ``plan.rounds`` rounds, more follow until ``enough`` says so.

    Returns:
        For each call one int64 array a round, with the nanoseconds of each execution.

    """
    samples: Samples = [list(rounds) for rounds in done] if done else [[] for _ in calls]
    finished = len(samples[0]) if samples else 0
    if not calls or _is_over(samples, finished, plan, enough):
        return samples
    repeats = [_repeats(warm_up(call, plan.warm_up_ms), plan.slice_ms) for call in calls]
    collecting = gc.isenabled()
    gc.disable()  # a collection would fall on one call of thousands and be taken for its p99
    try:
        while not _is_over(samples, finished, plan, enough):
            calls = _renewed(renew, finished) if renew else calls
            # Each order of measuring meets both orders of loading.
            taken = _round(calls, repeats, finished // 2 if renew else finished)
            for rounds, times in zip(samples, taken, strict=True):
                rounds.append(times)
            finished += 1
            if on_round:
                on_round(taken)
    finally:
        if collecting:
            gc.enable()
    return samples


def warm_up(call: Callable[[], object], milliseconds: float) -> float:
    """Run the call until it has had its time and no longer gets faster; return its nanoseconds."""
    window = milliseconds / _WARM_UP_WINDOWS
    medians: list[float] = []
    start = time.perf_counter_ns()
    while True:
        medians.append(float(np.median(_run_for(call, window))))
        spent = (time.perf_counter_ns() - start) / 1e6
        stable = len(medians) > 1 and medians[-1] >= (1 - _STABLE) * min(medians[:-1])
        if spent >= milliseconds and (stable or spent >= _WARM_UP_LIMIT * milliseconds):
            return medians[-1]


def _is_over(
    samples: Samples, finished: int, plan: TimingPlan, enough: Callable[[Samples], bool]
) -> bool:
    if finished < plan.rounds:
        return False
    if plan.precision is None or finished >= plan.most_rounds:
        return True
    # To look after every round would stop at a lucky one.
    return (finished - plan.rounds) % plan.rounds == 0 and enough(samples)


def _renewed(
    renew: Sequence[Callable[[], Callable[[], object]]], number: int
) -> list[Callable[[], object]]:
    """Make the calls anew, each round another one first: the first gets the better memory."""
    order = [(turn + number) % len(renew) for turn in range(len(renew))]
    made = {which: renew[which]() for which in order}
    gc.collect()  # the models of the round before, if they are tied in a knot
    for call in made.values():
        for _ in range(_FIRST_CALLS):
            call()
    return [made[which] for which in range(len(renew))]


def _round(
    calls: Sequence[Callable[[], object]], repeats: Sequence[int], number: int
) -> list[np.ndarray]:
    taken: list[np.ndarray] = [np.empty(0, np.int64)] * len(calls)
    for turn in range(len(calls)):
        which = (turn + number) % len(calls)
        taken[which] = _slice(calls[which], repeats[which])
    return taken


def _run_for(call: Callable[[], object], milliseconds: float) -> list[int]:
    end = time.perf_counter_ns() + milliseconds * 1e6
    taken: list[int] = []
    while len(taken) < _FEWEST_WARM_UP_CALLS or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return taken


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
