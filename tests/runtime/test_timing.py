import gc
import time

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.timing import TimingPlan, time_interleaved

QUICK = TimingPlan(rounds=6, slice_ms=4, warm_up_ms=2)


def test_rounds_take_turns_and_rotate():
    log = []
    time_interleaved([lambda: log.append("a"), lambda: log.append("b")], QUICK)
    timed = "".join(log).lstrip("a").lstrip("b")  # without the warm-up
    runs = [part[0] for part in timed.replace("ab", "a b").replace("ba", "b a").split()]
    # Each round has both, and the one that begins changes.
    assert runs[:4] == ["a", "b", "a", "b"] or "".join(runs).count("a") >= 3
    assert {"a", "b"} == set(runs)


def test_times_what_it_says():
    samples = time_interleaved([lambda: time.sleep(0.001), lambda: time.sleep(0.003)], QUICK)
    assert [len(rounds) for rounds in samples] == [6, 6]
    short, long = (np.median(np.concatenate(rounds)) for rounds in samples)
    assert 1e6 <= short < 2.5e6
    assert 3e6 <= long < 6e6
    assert all(samples[0][0].dtype == np.int64 for _ in samples)


def test_slices_last_about_as_long_for_all():
    samples = time_interleaved([lambda: time.sleep(0.0005), lambda: time.sleep(0.002)], QUICK)
    calls = [len(rounds[0]) for rounds in samples]
    assert calls[0] > 2 * calls[1] >= 2


def test_collection_is_off_while_timing_and_back_afterwards():
    seen = []
    time_interleaved([lambda: seen.append(gc.isenabled())], QUICK)
    assert not seen[-1]
    assert gc.isenabled()

    def fail():
        if len(seen) > 30:
            raise RuntimeError
        seen.append(1)

    with pytest.raises(RuntimeError):
        time_interleaved([fail], QUICK)
    assert gc.isenabled()


def test_progress_and_impossible_plans():
    rounds = []
    time_interleaved([lambda: None], QUICK, on_round=rounds.append)
    assert rounds == [1, 2, 3, 4, 5, 6]
    for wrong in ({"rounds": 0}, {"slice_ms": 0}, {"warm_up_ms": -1}):
        with pytest.raises(EdgecifarError):
            TimingPlan(**wrong)
