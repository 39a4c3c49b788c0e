"""What a compression step changed, before and after, and in plain words whether it paid."""

import dataclasses
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.statistics import Estimate
from edgecifar.train.files import write_json
from edgecifar.train.run import Run

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

_CALIBRATION_IMAGES = 100  # for sizes and latency, on which ranges have no influence


@dataclass(frozen=True)
class Side:
    """One model of a comparison. Its int8 file is quantized after training."""

    name: str
    macs: int
    parameters: int
    top1: float  # percent, of the Keras model on validation images
    int8_bytes: int
    int8_zipped: int
    int8_zeros: float  # share of the kernels' weights that are zero
    int8_us: float  # median latency of one image, one thread, on this machine


@dataclass(frozen=True)
class Verdict:
    """A parent and what a step made of it, measured in one go."""

    step: str  # "prune" or "sparsify"
    before: Side
    after: Side
    latency_ratio: Estimate  # below 1 the second is faster
    accuracy_change: Estimate  # in points, paired on the same images
    images: int

    @property
    def text(self) -> str:
        """One line that says what was gained and what it cost."""
        file = self.after.int8_bytes / self.before.int8_bytes
        zipped = self.after.int8_zipped / self.before.int8_zipped
        accuracy, size = self._accuracy(), f"file {file:.2f}x, zipped {zipped:.2f}x"
        if self.step == "sparsify":
            gain = "no speed-up is to be expected: int8 kernels multiply zeros like other weights"
            return f"{size}, {accuracy}; {gain} (measured {self._times()})"
        if self.latency_ratio.high < 1:
            faster = 1 / self.latency_ratio.value
            return (
                f"int8 {faster:.2f}x faster on this machine ({self._times()}), {size}, {accuracy}"
            )
        return f"int8 is not faster on this machine ({self._times()}), {size}, {accuracy}"

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (what, before, after) as a table shows them."""
        shown = (
            ("MACs", "macs", ",d"),
            ("parameters", "parameters", ",d"),
            ("validation top-1 %", "top1", ".2f"),
            ("int8 bytes", "int8_bytes", ",d"),
            ("int8 bytes, zipped", "int8_zipped", ",d"),
            ("int8 weights that are zero", "int8_zeros", ".1%"),
            ("int8 latency, microseconds", "int8_us", ".1f"),
        )
        return [
            (title, *(format(getattr(side, name), form) for side in (self.before, self.after)))
            for title, name, form in shown
        ]

    def _times(self) -> str:
        ratio = self.latency_ratio
        return f"{ratio.value:.2f}x the time, {ratio.low:.2f} to {ratio.high:.2f}"

    def _accuracy(self) -> str:
        change = self.accuracy_change
        interval = f"{change.low:+.2f} to {change.high:+.2f}, {self.images:,} validation images"
        if change.low <= 0 <= change.high:
            return f"accuracy unchanged within chance ({change.value:+.2f} points, {interval})"
        verb = "lost" if change.value < 0 else "won"
        return f"{abs(change.value):.2f} points {verb} ({interval})"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self) | {"verdict": self.text}


def judge(parent: Run, run: Run, dataset: "Dataset") -> Verdict:
    """Measure `run` against `parent`, both finished, and store the outcome in `run`."""
    from edgecifar.compress.export import calibration_images
    from edgecifar.compress.latency import Int8Race
    from edgecifar.compress.tflite import to_tflite

    first, second = parent.load_model(), run.load_model()
    calibration = calibration_images(dataset, _CALIBRATION_IMAGES)
    payloads = [to_tflite(model, "int8", calibration) for model in (first, second)]
    times = Int8Race(payloads[0], calibration).compare(payloads[1])
    right = [_correct(each) for each in (parent, run)]
    verdict = Verdict(
        run.info["stage"],
        _side(parent, payloads[0], times.before.median, right[0]),
        _side(run, payloads[1], times.after.median, right[1]),
        times.ratio,
        paired_change(*right),
        len(right[0]),
    )
    write_json(run.path / "verdict.json", verdict.as_json())
    return verdict


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
    half = 1.96 * math.sqrt(variance)
    return Estimate(100 * change, 100 * (centre - half), 100 * (centre + half))


def _correct(run: Run) -> np.ndarray:
    stored = np.load(run.path / "predictions-validation.npz")
    return stored["probabilities"].argmax(axis=1) == stored["labels"]


def _side(run: Run, payload: bytes, microseconds: float, correct: np.ndarray) -> Side:
    from edgecifar.compress.buffers import zero_share

    info = run.info
    return Side(
        run.name,
        info["macs"],
        info["parameters"],
        100 * float(correct.mean()),
        len(payload),
        len(zlib.compress(payload, 9)),
        zero_share(payload),
        microseconds,
    )
