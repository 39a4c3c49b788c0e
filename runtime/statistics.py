"""Accuracies, confidence and latencies, with their intervals, with NumPy alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_UNCHANGED = 2.0  # points: an interval that reaches further shows no absence of a change
_Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution
# Two-sided 98 % points of Student's distribution with 1 to 5 degrees of freedom.
_T98 = (31.821, 6.965, 4.541, 3.747, 3.365)


@dataclass(frozen=True)
class Estimate:
    """A value and its interval, in the unit of the value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """Microseconds a call over ``n`` calls; ``low`` to ``high`` is the median's interval."""

    median: float
    p90: float
    p99: float
    n: int
    low: float
    high: float


def wilson(correct: int, total: int) -> Estimate:
    """Return a proportion with its 95 % Wilson score interval, in percent.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927), 209-212. Unlike the normal approximation it holds near 0 and 100 %.

    Raises:
        ValueError: not 0 <= correct <= total, or total is 0.

    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} of {total} is no proportion")
    share, z2 = correct / total, _Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = share * (1 - share) / total + z2 / (4 * total**2)
    half = _Z95 * math.sqrt(spread) / (1 + z2 / total)
    low = 0.0 if correct == 0 else centre - half  # exactly 0 and 100 but for rounding
    high = 1.0 if correct == total else centre + half
    return Estimate(100 * share, 100 * low, 100 * high)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence.

    A fraction 0..1, each bin weighted by its images. Source: Guo et al., "On Calibration of
    Modern Neural Networks", 2017.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def latency(rounds: Sequence[np.ndarray]) -> Latency:
    """Summarise one model's rounds of nanoseconds as microseconds.

    Calls of one round share its clock and temperature, so the median is that of the rounds'
    medians, with the interval of `median_of`; the other quantiles are of all calls.

    Raises:
        ValueError: fewer than two rounds.

    """
    middle = median_of(round_medians(rounds))
    calls = np.concatenate(rounds) / 1e3
    p90, p99 = (float(value) for value in np.percentile(calls, (90, 99)))
    return Latency(middle.value, p90, p99, len(calls), middle.low, middle.high)


def ratio(rounds: Sequence[np.ndarray], baseline: Sequence[np.ndarray]) -> Estimate:
    """How many times the baseline's latency a model takes; below 1 it is faster.

    See `paired_ratio`. ``rounds`` are nanoseconds of calls, as those of ``baseline`` are.
    """
    return paired_ratio(round_medians(rounds), round_medians(baseline))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Return the median of the rounds' ratios, from the median latency of each round.

    Slice i of both ran within moments: what a machine does to some rounds, such as a lower clock,
    it does to both, where the medians over all rounds may be of different ones. The interval is
    that of `median_of`.

    Raises:
        ValueError: the two have different numbers of rounds, or fewer than two.

    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds can't be paired with {len(theirs)}")
    return median_of(np.asarray(ours) / np.asarray(theirs))


def median_of(rounds: np.ndarray) -> Estimate:
    """Return the median of float [rounds], all above 0, with its 95 % interval.

    It is the exact one (order statistics: W. J. Conover, Practical Nonparametric Statistics, 3.2)
    of as many independent rounds as tell as much, since rounds that follow each other are alike;
    it is of 98 %, as how many that are is known roughly. Fewer than seven rounds have none:
    theirs is Student's, of their logarithms, with as much.

    Raises:
        ValueError: fewer than two rounds.

    """
    if len(rounds) < 2:
        raise ValueError("one round tells nothing of how far rounds differ")
    value = float(np.median(rounds))
    low, high = (_student if _are_few(rounds) else _median_interval)(rounds)
    return Estimate(value, min(low, value), max(high, value))


def paired_change(before: np.ndarray, after: np.ndarray) -> Estimate:
    """Return the change in top-1, in points, between two models on the same images.

    Both are bool [n], right or wrong. The 95 % interval is Wald's for matched pairs, with half an
    image on either side so that it isn't empty where they never differ. Source: Agresti & Min,
    "Simple improved confidence intervals for comparing matched proportions", 2005.
    """
    n = len(before)
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    change, centre = (won - lost) / n, (won - lost) / (n + 2)
    variance = (won + lost + 1 - (won - lost) ** 2 / (n + 2)) / (n + 2) ** 2
    half = _Z95 * math.sqrt(variance)
    return Estimate(100 * change, 100 * (centre - half), 100 * (centre + half))


def describe_change(what: str, change: Estimate, of: str = "") -> str:
    """Say in words how `what`, an accuracy, changed; `of` tells on what it was measured."""
    interval = f"{change.low:+.2f} to {change.high:+.2f}{of}"
    if change.low <= 0 <= change.high:
        if max(-change.low, change.high) > _UNCHANGED:
            return f"{what} {change.value:+.2f} points, which may be chance ({interval})"
        return f"{what} unchanged within chance ({change.value:+.2f} points, {interval})"
    verb = "lost" if change.value < 0 else "won"
    return f"{abs(change.value):.2f} points {verb} ({interval})"


def round_medians(rounds: Sequence[np.ndarray]) -> np.ndarray:
    """Return the median microseconds of each round of nanoseconds."""
    return np.array([np.median(samples) for samples in rounds]) / 1e3


def _median_interval(values: np.ndarray) -> tuple[float, float]:
    """Bound the median by order statistics that miss it at most one time in fifty."""
    ordered, n = np.sort(values), len(values)
    independent = max(1, int(n / _alikeness(values)))
    rank = _rank(independent) * n // independent
    return float(ordered[rank]), float(ordered[n - 1 - rank])


def _rank(n: int) -> int:
    """Return how far from either end of n independent values their median almost surely lies."""
    # In whole numbers of 2**-n: of a thousand rounds and more they are no floats.
    tail, rank = 1, 0
    while 100 * (tail + math.comb(n, rank + 1)) <= 2**n and 2 * rank + 3 < n:
        rank += 1
        tail += math.comb(n, rank)
    return rank


def _alikeness(values: np.ndarray) -> float:
    """Return of how many rounds one tells no more than an independent one would, at least 1.

    By how much the shares of rounds above the median differ between batches of rounds, against
    what chance makes of them. Source: Flegal and Jones, "Batch means and spectral variance
    estimators in Markov chain Monte Carlo", 2010, which has batches of the root of n too.
    """
    above = values > np.median(values)
    if not above.any():
        return 1.0
    size = math.isqrt(len(values))
    shares = above[: len(values) // size * size].reshape(-1, size).mean(axis=1)
    return max(1.0, float(size * shares.var(ddof=1) / above.var()))


def _are_few(rounds: np.ndarray) -> bool:
    """Whether even the extremes of so many bound their median less surely than that."""
    return len(rounds) - 2 < len(_T98)


def _student(values: np.ndarray) -> tuple[float, float]:
    """Bound the middle of two to six positive values, which differ by factors."""
    logs = np.log(values)
    half = _T98[len(logs) - 2] * logs.std(ddof=1) / math.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))
