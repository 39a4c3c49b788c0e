"""Comparisons of classifiers on the same images: which differences are more than chance.

Intervals of a single accuracy or latency live in `edgecifar.runtime.statistics`, because a device
needs those too; what compares models on a workstation is here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import Estimate, expected_calibration_error, paired_change

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class McNemar:
    """Exact McNemar test: images that only one of two classifiers gets right, and the p value."""

    only_first: int
    only_second: int
    p: float

    @property
    def significant(self) -> bool:
        """Whether the two classifiers differ at the 5 % level."""
        return self.p < SIGNIFICANCE


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first top-1 in points (percent), its interval, and the McNemar test."""

    points: float
    low: float
    high: float
    n: int
    test: McNemar


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram: mean confidence, accuracy (0..1) and images a bin, and the ECE (0..1).

    Bins without images have NaN for confidence and accuracy.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    ece: float


@dataclass(frozen=True)
class Mean:
    """A mean of `n` repetitions and its 95 % interval, which a single one doesn't have."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ConfusedPair:
    """Images of class `true` that were taken for class `predicted`; `rate` is of the true class."""

    true: int
    predicted: int
    count: int
    rate: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Test whether two classifiers err equally often on the same images.

    `first` and `second` are bool [N]: right or wrong, image by image. Under the null hypothesis
    the images on which they differ fall to either side like a fair coin, so the two-sided exact
    p value is binomial (McNemar 1947; exact form as in Agresti, Categorical Data Analysis, 10.1).
    """
    first, second = _paired(first, second)
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    discordant = only_first + only_second
    term = tail = 1  # of the binomial coefficients: each anew would take seconds
    for k in range(min(only_first, only_second)):
        term = term * (discordant - k) // (k + 1)
        tail += term
    # Python divides integers of any length correctly rounded, where floats would overflow.
    return McNemar(only_first, only_second, min(1.0, 2 * tail / 2**discordant))


def paired_difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Difference in top-1, second minus first, in points, with its 95 % interval and test.

    `first` and `second` are bool [N], right or wrong on the same images.
    """
    first, second = _paired(first, second)
    change = paired_change(first, second)
    return PairedDifference(
        change.value, change.low, change.high, len(first), mcnemar(first, second)
    )


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of a few repetitions with Student's t interval.

    It covers what repeating the training with another seed changes, on the same test images; how
    far those images stand for others is in the interval of each repetition. Raises ValueError
    without values.
    """
    if not len(values):
        raise ValueError("a mean of nothing")
    n, value = len(values), float(np.mean(values))
    if n == 1:
        return Mean(value, None, None, 1)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Mean(value, value - half, value + half, n)


def quotient(first: Estimate, second: Estimate) -> Estimate:
    """Return first over second, both above zero; their errors add up as independent ones do."""
    value = first.value / second.value
    # On the logarithmic scale, since a ratio of times is never negative.
    below = math.hypot(math.log(first.value / first.low), math.log(second.high / second.value))
    above = math.hypot(math.log(first.high / first.value), math.log(second.value / second.low))
    return Estimate(value, value * math.exp(-below), value * math.exp(above))


def calibration(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> Calibration:
    """Reliability of the top-1 confidence, with the expected calibration error.

    `probabilities` float [N, C], `labels` int [N]; equal-width bins of the winning probability,
    as in `edgecifar.runtime.statistics.expected_calibration_error`, so that the two agree.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return Calibration(
        edges=np.linspace(0, 1, bins + 1),
        confidence=np.bincount(which, confidence, minlength=bins) / filled,
        accuracy=np.bincount(which, correct, minlength=bins) / filled,
        count=count,
        ece=expected_calibration_error(probabilities, labels, bins=bins),
    )


def confused_pairs(confusion: np.ndarray, *, top: int = 5) -> tuple[ConfusedPair, ...]:
    """Return the `top` largest off-diagonal cells of a confusion matrix, most frequent first.

    `confusion` int [C, C]: rows are true classes, columns predictions. Cells of 0 are left out.
    """
    confusion = np.asarray(confusion)
    support = confusion.sum(axis=1)
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(errors, axis=None, kind="stable")[::-1][:top]
    cells = zip(*np.unravel_index(order, errors.shape), strict=True)
    return tuple(
        ConfusedPair(int(i), int(j), int(errors[i, j]), float(errors[i, j] / support[i]))
        for i, j in cells
        if errors[i, j] > 0
    )


def confident_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, *, pairs: int = 6, each: int = 6
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return which images were most confidently taken for another class.

    `probabilities` float [n, C], `labels` int [n]. For each of the most frequent `pairs` of (true,
    predicted) class up to `each` positions from 0 to n - 1, the most confident first.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    found = {}
    for pair in confused_pairs(confusion, top=pairs):
        which = np.flatnonzero((labels == pair.true) & (predicted == pair.predicted))
        order = np.argsort(-probabilities[which, pair.predicted], kind="stable")[:each]
        found[pair.true, pair.predicted] = tuple(which[order].tolist())
    return found


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise EdgecifarError(
            f"a paired comparison of {first.shape} and {second.shape} answers: "
            "measure both models on the same images"
        )
    return first, second
