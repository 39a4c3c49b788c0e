import numpy as np
import pytest

from edgecifar.benchmarks.checks import harness
from edgecifar.runtime.statistics import Estimate
from edgecifar.runtime.timing import TimingPlan

PLAN = TimingPlan(rounds=20, slice_ms=2, warm_up_ms=5)


def _work():
    rng = np.random.default_rng()
    shift = np.ones(int(rng.integers(1, 1 << 16)), np.uint8)
    a, b = rng.normal(size=(2, 96, 96)).astype(np.float32)
    return lambda: (a @ b, shift)


def test_rounds_go_on_until_intervals_are_narrow(monkeypatch):
    lengths = []

    def too_wide(samples, plan, first):
        lengths.append(len(samples[first]))
        return ["still"] if lengths[-1] < 3 * plan.rounds else []

    monkeypatch.setattr(harness, "too_wide", too_wide)
    plan = TimingPlan(rounds=2, slice_ms=1, warm_up_ms=1, precision=0.02)
    harness.check(_work, runs=1, plan=plan)
    assert lengths == [2, 4, 6] * 2  # once against itself, once slowed


@pytest.mark.quiet
def test_real_work_against_itself_and_slowed():
    """A short version of the real check; the machine may be busy, so a third is told apart."""
    found = harness.check(_work, runs=6, slowdown=0.3, plan=PLAN)
    assert found.held >= 4
    assert found.told_apart == 6
    assert all(1.1 < one.value < 1.6 for one in found.slowed)


def test_what_counts_as_passed():
    one, above, below = (
        Estimate(1, 0.99, 1.01),
        Estimate(1.05, 1.02, 1.07),
        Estimate(0.9, 0.8, 0.95),
    )
    assert harness.Check((one,) * 17 + (below,) * 3, (above,) * 20, None).passed
    assert not harness.Check((one,) * 16 + (below,) * 4, (above,) * 20, None).passed
    assert not harness.Check((one,) * 20, (above,) * 19 + (one,), None).passed
