"""Latency of models on this machine, against each other, through the runtime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.bare import open_bare
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime import environment
from edgecifar.runtime.rounds import too_wide
from edgecifar.runtime.statistics import Estimate, Latency, latency, ratio
from edgecifar.runtime.timing import TimingPlan, time_interleaved

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.runtime.interpreters import Interpreter


@dataclass(frozen=True)
class Timed:
    """A model's latency in microseconds, and the ratio of its median to the first one's."""

    latency: Latency
    ratio: Estimate
    doubts: tuple[str, ...] = ()  # why they can't be trusted


def race(
    models: Sequence[bytes | tuple[bytes, ...] | Callable[[], object]],
    plan: TimingPlan | None = None,
) -> list[Timed]:
    """Time models in turns: one image at a time, on one thread.

    Each is the bytes of a TFLite file of ours, several in a tuple, which count as one and run one
    after the other, or a call.
    """
    plan = plan or TimingPlan()
    calls = [_call(model) for model in models]
    before = environment.usage()
    rounds = time_interleaved(calls, plan, enough=lambda samples: not too_wide(samples, plan, 0))
    doubts = tuple(environment.crowding(before.others(environment.usage())))
    return [Timed(latency(each), ratio(each, rounds[0]), doubts) for each in rounds]


def doubtful(doubts: Sequence[str]) -> str:
    """Say why times can't be trusted, after what they say; nothing if they can."""
    return f"; these times are doubtful: {', '.join(doubts)}" if doubts else ""


def told(times: Estimate) -> str:
    """Return a ratio of latencies in words, with its interval."""
    return f"{times.value:.2f}x the time, {times.low:.2f} to {times.high:.2f}"


def faster(times: Estimate, than: str = "") -> str:
    """Say how much faster a ratio of latencies is `than` what, or that it isn't beyond chance."""
    gain = f"{1 / times.value:.2f}x" if times.high < 1 else "not"
    against = f" than {than}" if than else ""
    return f"{gain} faster{against} on this machine ({told(times)})"


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

    def time(self, payload: bytes, plan: TimingPlan | None = None) -> Timed:
        """Time the bytes of a model against the first model's."""
        return race([self._first, payload], plan)[1]

    def ratio(self, model: "keras.Model") -> float:
        """Return how many times the first model's latency a model takes."""
        return self.time(self.convert(model)).ratio.value


def _call(model: bytes | tuple[bytes, ...] | Callable[[], object]) -> Callable[[], object]:
    if isinstance(model, tuple):
        calls = [_call(each) for each in model]
        return lambda: [call() for call in calls]
    return call_of(open_bare(model)) if isinstance(model, bytes) else model


def call_of(interpreter: "Interpreter") -> Callable[[], object]:
    """Return one inference of a loaded file on noise: zeros could flatter a kernel."""
    taken = interpreter.input
    pixels = np.random.default_rng(0).integers(0, 256, taken.shape)
    image = (pixels - 128 if taken.dtype == np.int8 else pixels).astype(taken.dtype)
    return lambda: interpreter.run(image)
