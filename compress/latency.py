"""Latency of models on this machine, against each other, through the runtime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.bare import open_bare
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime.statistics import Estimate, Latency, latency, ratio
from edgecifar.runtime.timing import TimingPlan, time_interleaved

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.runtime.interpreters import Interpreter


@dataclass(frozen=True)
class Comparison:
    """Two models, one thread, timed in turns on this machine."""

    before: Latency
    after: Latency
    ratio: Estimate  # of the medians; below 1 the second is faster


@dataclass(frozen=True)
class Timed:
    """A file's latency, and the ratio of its median to the first file's."""

    latency: Latency
    ratio: Estimate


def race(payloads: Sequence[bytes | tuple[bytes, ...]]) -> list[Timed]:
    """Time the bytes of TFLite files of ours in turns: one image at a time, on one thread.

    Several in a tuple count as one, run one after the other.
    """
    rounds = time_interleaved([_call(payload) for payload in payloads])
    return [Timed(latency(each), ratio(each, rounds[0])) for each in rounds]


class Int8Race:
    """Times models against a first one, each converted to int8 without fine-tuning.

    The first may be the bytes of a file. Latency depends on shapes and, in LiteRT, not on weights:
    an unfinished model will do.
    `calibration` are uint8 training images [n, height, width, 3].
    """

    def __init__(self, first: "keras.Model | bytes", calibration: np.ndarray):
        self._calibration = calibration
        self._first = _call(first if isinstance(first, bytes) else self.convert(first))

    def convert(self, model: "keras.Model") -> bytes:
        """Return the int8 TFLite bytes of a model."""
        return to_tflite(model, "int8", self._calibration)

    def compare(self, payload: bytes, plan: TimingPlan | None = None) -> Comparison:
        """Time the bytes of a model against the first model's."""
        first, second = time_interleaved([self._first, _call(payload)], plan)
        return Comparison(latency(first), latency(second), ratio(second, first))

    def ratio(self, model: "keras.Model") -> float:
        """Return how many times the first model's latency a model takes."""
        return self.compare(self.convert(model)).ratio.value


def _call(payload: bytes | tuple[bytes, ...]) -> Callable[[], object]:
    if isinstance(payload, tuple):
        calls = [_call(each) for each in payload]
        return lambda: [call() for call in calls]
    return call_of(open_bare(payload))


def call_of(interpreter: "Interpreter") -> Callable[[], object]:
    """Return one inference of a loaded file on noise: zeros could flatter a kernel."""
    taken = interpreter.input
    pixels = np.random.default_rng(0).integers(0, 256, taken.shape)
    image = (pixels - 128 if taken.dtype == np.int8 else pixels).astype(taken.dtype)
    return lambda: interpreter.run(image)
