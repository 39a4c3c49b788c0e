import time

import numpy as np
import pytest
from scipy.stats import binomtest

from edgecifar.benchmarks.statistics import (
    Mean,
    calibration,
    confident_mistakes,
    confused_pairs,
    mcnemar,
    mean_of,
    paired_difference,
)
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import expected_calibration_error


def answers(n, only_first, only_second):
    """Two classifiers that are both right but where only one of them is."""
    first, second = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    second[:only_first] = False
    first[only_first : only_first + only_second] = False
    return first, second


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 1), (12, 30), (700, 820)])
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second):
    result = mcnemar(*answers(10_000, only_first, only_second))
    assert (result.only_first, result.only_second) == (only_first, only_second)
    discordant = only_first + only_second
    expected = binomtest(only_first, discordant).pvalue if discordant else 1.0
    assert result.p == pytest.approx(expected, rel=1e-9)


def test_difference_is_second_minus_first_in_points():
    result = paired_difference(*answers(1000, 10, 40))
    assert result.points == pytest.approx(3.0)
    assert result.low < 3.0 < result.high
    assert result.low > 0, "50 discordant images, 40 to 10, are no chance"
    assert result.test.significant


def test_interval_agrees_with_resampled_images():
    first, second = answers(500, 30, 20)
    picks = np.random.default_rng(1).integers(0, 500, (4000, 500))
    resampled = 100 * (second[picks].mean(axis=1) - first[picks].mean(axis=1))
    result = paired_difference(first, second)
    # Both ends are estimates; a step of one image is 0.2 points.
    assert np.percentile(resampled, [2.5, 97.5]) == pytest.approx(
        [result.low, result.high], abs=0.4
    )


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        kinds = rng.choice(4, size=400, p=[0.8, 0.1, 0.06, 0.04])  # truth: 4 - 6 = -2 points
        first, second = np.isin(kinds, (0, 2)), np.isin(kinds, (0, 3))
        result = paired_difference(first, second)
        held += result.low <= -2 <= result.high
    assert 180 <= held <= 199


def test_pairing_is_what_makes_small_differences_visible():
    first, second = answers(10_000, 2, 30)
    first[-1300:] = second[-1300:] = False  # what both get wrong
    together = paired_difference(first, second)
    apart = paired_difference(first, np.random.default_rng(0).permutation(second))
    assert together.test.significant
    assert not apart.test.significant


def test_a_mean_of_repetitions_has_student_s_interval():
    found = mean_of([1, 2, 3])
    half = 4.3027 / 3**0.5  # t of two degrees of freedom, and a standard deviation of one
    assert (found.value, found.n) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), abs=1e-4)


def test_a_mean_of_one_repetition_has_no_interval():
    assert mean_of([91.5]) == Mean(91.5, None, None, 1)
    with pytest.raises(ValueError, match="a mean of nothing"):
        mean_of([])


def test_unequal_sets_are_refused():
    with pytest.raises(EdgecifarError, match="same images"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))


def test_calibration_of_a_model_that_knows_its_odds():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20_000)
    labels = (rng.uniform(size=20_000) > confidence).astype(int)  # class 0 as often as claimed
    honest = calibration(np.stack([confidence, 1 - confidence], axis=1), labels)
    boastful = calibration(np.stack([confidence**0.2, 1 - confidence**0.2], axis=1), labels)
    assert honest.ece < 0.02
    assert boastful.ece > 0.1
    assert honest.count.sum() == 20_000
    filled = honest.count > 100
    assert honest.accuracy[filled] == pytest.approx(honest.confidence[filled], abs=0.05)
    assert np.isnan(honest.accuracy[honest.count == 0]).all()


def test_calibration_agrees_with_the_figure_of_the_run(flat_digits, trained):
    x, y = flat_digits.test
    chances = trained["mlp8"][0](x)
    result = calibration(chances, y)
    gaps = np.nan_to_num(np.abs(result.accuracy - result.confidence))
    by_hand = float(gaps @ result.count / result.count.sum())
    assert result.ece == pytest.approx(by_hand, abs=1e-6)
    assert result.ece == expected_calibration_error(chances, y)


def test_confused_pairs_are_the_largest_errors():
    matrix = np.array([[50, 0, 7], [1, 40, 9], [0, 0, 60]])
    pairs = confused_pairs(matrix, top=5)
    assert [(p.true, p.predicted, p.count) for p in pairs] == [(1, 2, 9), (0, 2, 7), (1, 0, 1)]
    assert pairs[0].rate == pytest.approx(9 / 50)
    assert confused_pairs(np.diag([3, 4])) == ()
    assert matrix[0, 0] == 50, "the caller's matrix is left alone"


def test_the_most_confident_mistakes():
    probabilities = np.array(
        [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9], [0.7, 0.3], [0.45, 0.55]]
    )
    labels = np.array([0, 0, 0, 0, 1, 0])
    found = confident_mistakes(probabilities, labels, each=3)
    assert found == {(0, 1): (3, 1, 2), (1, 0): (4,)}
    assert confident_mistakes(probabilities, labels, pairs=1).keys() == {(0, 1)}


def test_mcnemar_of_thousands_of_different_answers_is_exact_and_quick():
    first = np.zeros(6000, bool)
    first[:2900] = True
    start = time.perf_counter()
    found = mcnemar(first, ~first)
    assert time.perf_counter() - start < 1
    assert found.p == pytest.approx(binomtest(2900, 6000).pvalue, rel=1e-9)
