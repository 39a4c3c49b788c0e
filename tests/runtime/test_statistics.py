import numpy as np
import pytest

from edgecifar.runtime.statistics import latency, median_of, paired_change, ratio, wilson


def test_wilson_against_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81/263, 15/148, 0/20 and 1/29.
    for counts, low, high in [
        ((81, 263), 25.53, 36.62),
        ((15, 148), 6.24, 16.05),
        ((0, 20), 0.0, 16.11),
        ((1, 29), 0.61, 17.18),
    ]:
        found = wilson(*counts)
        assert found.value == pytest.approx(100 * counts[0] / counts[1])
        assert (found.low, found.high) == (
            pytest.approx(low, abs=6e-3),
            pytest.approx(high, abs=6e-3),
        )


def test_wilson_at_the_ends():
    assert wilson(0, 5).low == 0.0
    assert wilson(5, 5).high == 100.0
    for impossible in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson(*impossible)


def test_latency_is_in_microseconds():
    found = latency([np.arange(1, 101) * 1000, np.arange(1, 101) * 1000])
    assert found.median == pytest.approx(50.5)
    assert found.p90 == pytest.approx(90.1, abs=0.5)
    assert found.p99 == pytest.approx(99.0, abs=0.5)
    assert found.n == 200


def test_a_latency_is_that_of_the_middle_round():
    """Pooled, calls of a machine's two speeds have a median between those of its rounds."""
    rounds = [np.repeat([t * 1000, (t + 30) * 1000], [60, 40]) for t in range(50, 59)]
    found = latency(rounds)
    assert (found.median, found.low, found.high) == (54, 50, 58)


@pytest.mark.parametrize("rounds", [7, 20])
def test_the_interval_of_a_latency_holds_the_truth(rounds):
    rng = np.random.default_rng(3)

    def measured(rounds):
        speed = np.where(rng.random(rounds) < 0.6, 50, 80) * rng.lognormal(0, 0.02, rounds)
        return speed[:, None] * (1 + 0.2 * rng.standard_exponential((rounds, 20))) * 1000

    truth = np.median(np.median(measured(100_000), axis=1)) / 1000
    found = [latency(list(measured(rounds))) for _ in range(200)]
    assert sum(one.low <= truth <= one.high for one in found) >= 0.95 * len(found)
    assert all(one.low <= one.median <= one.high for one in found)


def test_interval_comes_from_rounds_not_calls():
    steady = [np.full(1000, 50_000) for _ in range(20)]
    drifting = [np.full(1000, 50_000 + 1_000 * k) for k in range(20)]
    assert latency(steady).low == latency(steady).high == 50.0
    found = latency(drifting)
    assert found.high - found.low > 5  # 20,000 calls would pretend to know it to 0.1


def test_ratio_pairs_rounds():
    rng = np.random.default_rng(0)
    clock = rng.uniform(1, 2, 20)  # the machine's speed, which both share
    slow = [np.full(50, 100_000) * factor for factor in clock]
    fast = [np.full(50, 30_000) * factor for factor in clock]
    found = ratio(fast, slow)
    assert found.value == pytest.approx(0.3)
    assert found.high - found.low < 0.1
    assert ratio(slow, slow).low == ratio(slow, slow).high == 1.0
    with pytest.raises(ValueError, match="paired"):
        ratio(slow, fast[:5])


def _simulated(rng, factor=1.0, rounds=20, calls=100):
    """Rounds of two models on a machine whose clock drifts, with the noise of real ones."""
    clock = 1 + 0.05 * np.cumsum(rng.normal(0, 0.3, rounds)) / np.sqrt(rounds)

    def model(scale):
        noise = 1 + np.abs(rng.normal(0, 0.02, rounds))
        times = 41_000 * scale * (clock * noise)[:, None]
        return list((times * (1 + 0.01 * rng.standard_exponential((rounds, calls)))).astype(int))

    return model(factor), model(1.0)


@pytest.mark.parametrize(("rounds", "width"), [(2, 2.0), (3, 0.3), (6, 0.1), (7, 0.1), (20, 0.03)])
def test_one_model_against_itself_is_one(rounds, width):
    rng = np.random.default_rng(1)
    found = [ratio(*_simulated(rng, rounds=rounds)) for _ in range(200)]
    held = sum(estimate.low <= 1 <= estimate.high for estimate in found)
    assert held >= 0.95 * len(found)
    assert np.median([estimate.high - estimate.low for estimate in found]) < width


@pytest.mark.parametrize(("alike", "rounds"), [(0.3, 20), (0.6, 50), (0.8, 200)])
def test_rounds_that_are_like_those_before_tell_less(alike, rounds):
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        walk = [rng.normal() / np.sqrt(1 - alike**2)]
        for step in rng.normal(size=rounds - 1):
            walk.append(alike * walk[-1] + step)
        found = median_of(np.exp(0.01 * np.array(walk)))
        held += found.low <= 1 <= found.high
    assert held >= 0.95 * 300


def test_rounds_of_two_speeds_one_after_the_other_bound_neither():
    found = median_of(np.repeat([1.0, 1.1], 20) * np.linspace(0.999, 1.001, 40))
    assert (found.low, found.high) == pytest.approx((1, 1.1), abs=0.01)


def test_few_rounds_know_little_of_a_latency():
    def interval(*medians):
        found = latency([np.array([median * 1000]) for median in medians])
        return found.low, found.high

    # Student's: exp(mean of the logarithms -+ 31.821 * their spread / sqrt(2)).
    assert interval(50, 51) == pytest.approx((36.85, 69.20), abs=0.01)
    low, high = interval(50, 51, 50, 51)
    assert 48 < low < 49.5 < 51.5 < high < 53
    with pytest.raises(ValueError, match="one round tells nothing"):
        ratio([np.array([1000])], [np.array([1000])])


def test_thousands_of_rounds_are_counted():
    rng = np.random.default_rng(0)
    rounds = [np.array([50_000 * factor]) for factor in rng.uniform(0.9, 1.1, 3000)]
    found = ratio(rounds, [np.array([50_000])] * 3000)
    assert found.low < 1 < found.high < found.low + 0.02


def test_five_percent_are_told_apart():
    rng = np.random.default_rng(2)
    found = [ratio(*_simulated(rng, 1.05)) for _ in range(50)]
    assert all(estimate.low > 1 for estimate in found)
    assert sum(e.low <= 1.05 <= e.high for e in found) >= 45


def test_paired_change_counts_images_on_which_the_two_differ():
    before = np.repeat([True, True, False, False], [800, 30, 10, 160])
    after = np.repeat([True, False, True, False], [800, 30, 10, 160])
    change = paired_change(before, after)
    assert change.value == pytest.approx(-2.0)
    assert change.low < -2 < change.high < 0
    # Twice the images that differ both ways say nothing else of the mean, but less surely.
    shaky = np.repeat([True, True, False, False], [700, 130, 110, 60])
    other = np.repeat([True, False, True, False], [700, 130, 110, 60])
    assert paired_change(shaky, other).high > 0


def test_no_difference_is_no_certainty():
    same = np.ones(50, dtype=bool)
    change = paired_change(same, same)
    assert change.value == 0
    assert change.low < -1
    assert change.high > 1
