import gc
import time
from itertools import groupby

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.timing import TimingPlan, time_interleaved, warm_up

QUICK = TimingPlan(rounds=6, slice_ms=4, warm_up_ms=2)


def test_rounds_take_turns_and_rotate():
    log = []

    def call(name):
        log.append(name)
        time.sleep(0.001)

    plan = TimingPlan(rounds=4, slice_ms=1, warm_up_ms=0)
    time_interleaved([lambda: call("a"), lambda: call("b")], plan)
    slices = [name for name, _ in groupby(log)]
    # Warm-up of both, then rounds ab, ba, ab, ba; neighbours of one name melt into one slice.
    assert slices == ["a", "b", "a", "b", "a", "b", "a"]


def test_times_what_it_says():
    samples = time_interleaved([lambda: time.sleep(0.001), lambda: time.sleep(0.003)], QUICK)
    assert [len(rounds) for rounds in samples] == [6, 6]
    short, long = (np.median(np.concatenate(rounds)) for rounds in samples)
    assert 1e6 <= short < 2.5e6
    assert 3e6 <= long < 6e6
    assert all(times.dtype == np.int64 for rounds in samples for times in rounds)


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
    assert [len(times) for times in rounds] == [1] * 6
    for wrong in ({"rounds": 1}, {"slice_ms": 0}, {"warm_up_ms": -1}):
        with pytest.raises(EdgecifarError):
            TimingPlan(**wrong)


def test_rounds_of_an_earlier_run_are_gone_on_from():
    earlier = [[np.array([7], np.int64)] * 4, [np.array([9], np.int64)] * 4]
    new = []
    samples = time_interleaved([lambda: None] * 2, QUICK, done=earlier, on_round=new.append)
    assert [len(rounds) for rounds in samples] == [6, 6]
    assert samples[0][:4] == earlier[0]
    assert len(new) == 2
    assert len(earlier[0]) == 4, "what was given is left as it was"
    assert time_interleaved([lambda: 1 / 0] * 2, QUICK, done=samples) == samples


def test_more_rounds_until_it_is_enough():
    plan = TimingPlan(rounds=4, slice_ms=1, warm_up_ms=1, precision=0.02, most_rounds=20)
    seen = []

    def enough(samples):
        seen.append(len(samples[0]))
        return len(samples[0]) >= 12

    assert len(time_interleaved([lambda: None], plan, enough=enough)[0]) == 12
    assert seen == [4, 8, 12]
    assert len(time_interleaved([lambda: None], plan, enough=lambda samples: False)[0]) == 20
    for wrong in (0, 2, -0.1):
        with pytest.raises(EdgecifarError, match="precision"):
            TimingPlan(precision=wrong)


def test_warm_up_lasts_while_calls_get_faster():
    def slow_start():
        slow_start.calls += 1
        time.sleep(0.001 + 0.02 * 0.8**slow_start.calls)

    slow_start.calls = 0
    assert 1e6 <= warm_up(slow_start, 60) < 10e6
    assert slow_start.calls > 5
    assert 0.5e6 <= warm_up(lambda: time.sleep(0.0005), 20) < 5e6


def test_each_round_can_load_anew():
    made = []

    def make():
        made.append(0)
        number = len(made) - 1

        def call():
            made[number] += 1

        return call

    samples = time_interleaved([lambda: None], QUICK, renew=[make])
    assert len(made) == 6, "one load a round"
    assert all(calls > len(times) for calls, times in zip(made, samples[0], strict=True))
