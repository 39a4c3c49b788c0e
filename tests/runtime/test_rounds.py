import numpy as np
import pytest

from edgecifar.runtime.rounds import unsteady


def rounds(*medians):
    return [np.array([median * 1000.0]) for median in medians]


def noisy(first, second, seed=0, count=10):
    """Return `count` rounds about each of two latencies."""
    medians = np.repeat([first, second], count)
    return rounds(*medians * np.random.default_rng(seed).uniform(0.99, 1.01, 2 * count))


@pytest.mark.parametrize(
    ("samples", "first", "told"),
    [
        ([noisy(50, 50), noisy(40, 40, seed=1)], 0, []),
        ([noisy(50, 60), noisy(40, 48, seed=1)], 0, []),  # the clock fell for both
        ([noisy(50, 50), noisy(40, 50, seed=1)], 0, ["b took 1.25 times as long"]),
        ([noisy(50, 50), noisy(40, 50, seed=1)], None, ["b took 1.25 times as long"]),
        ([noisy(50, 60)], 0, ["a took 1.20 times as long"]),
        ([noisy(50, 60, count=6)], 0, []),  # too few rounds to tell
    ],
)
def test_a_latency_that_changed_for_good_is_told(samples, first, told):
    found = unsteady("ab"[: len(samples)], samples, first)
    assert [text.partition(" in the second half")[0] for text in found] == told
