"""Few layers in float with which an int8 file loses no more than it may."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.bare import probabilities
from edgecifar.compress.latency import Timed, doubtful, race
from edgecifar.compress.selective import Ranged, Unit
from edgecifar.compress.sensitivity import IMAGES, Sensitivity, Track, measure
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import Estimate, paired_change
from edgecifar.train.evaluate import predict
from edgecifar.train.progress import Report, ignore

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

_MOST_IMAGES = 5000
_ROUNDING = 1e-9  # so that a loss of exactly the budget is within it


@dataclass(frozen=True)
class Trial:
    """A file that was made and measured."""

    layers: tuple[str, ...]  # in float
    change: Estimate  # of top-1 against Keras in points, paired on the same images
    payload: bytes


@dataclass(frozen=True)
class Choice:
    """What `--max-drop` came to."""

    max_drop: float  # points
    images: int
    int8: Trial
    chosen: Trial
    times: Timed | None  # the chosen file against int8 throughout; None if that is it
    trials: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers to keep in float, each with what is fused into it."""
        return self.chosen.layers

    @property
    def text(self) -> str:
        """One line: which layers, what they save and what they cost."""
        asked = f"--max-drop {self.max_drop:g}"
        start = f"int8 throughout {_lost(self.int8.change)} on {self.images:,} validation images"
        if self.times is None:
            return f"{start}, within {asked}: no layer needs float"
        ratio = self.times.ratio
        chosen, int8 = (len(trial.payload) for trial in (self.chosen, self.int8))
        return (
            f"{start}; with {', '.join(self.layers)} in float it {_lost(self.chosen.change)}, "
            f"within {asked}; that costs {chosen:,} bytes instead of {int8:,} and "
            f"{ratio.value:.2f}x the time ({ratio.low:.2f} to {ratio.high:.2f}) on this machine"
            f"{doubtful(self.times.doubts)}"
        )


def require_drop(max_drop: float) -> None:
    """Raise EdgecifarError unless `max_drop` is a number of points that can be lost."""
    if not 0 <= max_drop <= 100:
        raise EdgecifarError(f"--max-drop is {max_drop:g}: give points of top-1, such as 0.5")


def search_in_float(
    file: Ranged,
    model: "keras.Model",
    dataset: "Dataset",
    max_drop: float,
    *,
    track: Track = iter,
    report: Report = ignore,
) -> Choice:
    """Find layers whose staying in float keeps the loss within `max_drop` points.

    The layer that loses most alone goes to float first, then the next, each file measured; at the
    end those are taken back that turn out not to be needed. Such a greedy search finds few layers,
    not always the fewest. `file` is `model` converted. Raises EdgecifarError if not even a file
    with all layers in float loses so little.
    """
    require_drop(max_drop)
    search = _Search(file, model, dataset, max_drop)
    int8 = search.try_with(())
    if search.is_within(int8):
        return Choice(max_drop, search.images, int8, int8, None, 1)
    report(f"int8 throughout {_lost(int8.change)}: looking for the layers that cost most")
    alone = measure(file, dataset.validation, IMAGES, track)
    chosen = search.grow_and_thin(_in_order(file, alone), report)
    times = race([int8.payload, chosen.payload])[1]
    return Choice(max_drop, search.images, int8, chosen, times, search.trials)


class _Search:
    """Makes files, measures them against Keras and counts them."""

    def __init__(self, file: Ranged, model: "keras.Model", dataset: "Dataset", max_drop: float):
        from edgecifar.train.data import Split

        validation = dataset.validation
        sample = Split(validation.images[:_MOST_IMAGES], validation.labels[:_MOST_IMAGES])
        self._file, self._images, self._max_drop = file, sample.images, max_drop
        self._labels = np.asarray(sample.labels)
        self._right = predict(model, sample).argmax(axis=1) == self._labels
        self.trials = 0

    @property
    def images(self) -> int:
        """How many a file is measured on."""
        return len(self._labels)

    def try_with(self, floats: Sequence[Unit]) -> Trial:
        """Measure the file in which `floats` stay in float."""
        self.trials += 1
        payload = self._file.quantized(floats)
        right = probabilities(payload, self._images).argmax(axis=1) == self._labels
        names = tuple(unit.name for unit in self._file.units if unit in floats)
        return Trial(names, paired_change(self._right, right), payload)

    def is_within(self, trial: Trial) -> bool:
        """Tell whether a file loses no more than it may."""
        return -trial.change.value <= self._max_drop + _ROUNDING

    def grow_and_thin(self, order: Sequence[Unit], report: Report) -> Trial:
        """Return a file with few layers in float, the first of `order` taken first."""
        best = None
        for trial, floats in self._growing(order):
            report(f"{', '.join(trial.layers)} in float: {_lost(trial.change)}")
            best = trial if best is None or trial.change.value > best.change.value else best
            if self.is_within(trial):
                return self._thinned(trial, floats)
        raise EdgecifarError(
            f"none of {self.trials} choices of layers in float loses so little: give --max-drop "
            f"{_rounded_up(-best.change.value):.2f}, which {', '.join(best.layers)} in float reach"
        )

    def _growing(self, order: Sequence[Unit]) -> Iterator[tuple[Trial, list[Unit]]]:
        for count in range(1, len(order) + 1):
            floats = list(order[:count])
            yield self.try_with(floats), floats

    def _thinned(self, trial: Trial, floats: list[Unit]) -> Trial:
        """Take layers back into int8, the least sensitive first, as long as the loss allows it."""
        for unit in reversed(floats[:-1]):
            fewer = [each for each in floats if each != unit]
            attempt = self.try_with(fewer)
            if self.is_within(attempt):
                trial, floats = attempt, fewer
        return trial


def _in_order(file: Ranged, alone: Sensitivity) -> list[Unit]:
    units = {unit.name: unit for unit in file.units}
    return [units[each.layer] for each in alone.ranked]


def _rounded_up(points: float) -> float:
    """Round to hundredths, none of which may be less than what was measured."""
    return math.ceil(100 * points - _ROUNDING) / 100


def _lost(change: Estimate) -> str:
    verb = "loses" if change.value <= 0 else "wins"
    return f"{verb} {abs(change.value):.2f} points ({change.low:+.2f} to {change.high:+.2f})"
