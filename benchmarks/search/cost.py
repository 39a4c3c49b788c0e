"""What shapes cost on a device: int8 bytes and latency, measured with random weights."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.benchmarks.devices.local import LocalDevice
from edgecifar.benchmarks.search.space import FINE_TUNED_BYTES, Limits
from edgecifar.runtime import modelfile
from edgecifar.runtime.timing import TimingPlan
from edgecifar.train import models
from edgecifar.train.models import edgenet

if TYPE_CHECKING:
    from edgecifar.benchmarks.search.remote import RemoteRace
    from edgecifar.compress.latency import Int8Race

_PRECISION = 0.05
_PLAN = TimingPlan(rounds=20, slice_ms=10.0, warm_up_ms=60.0, precision=_PRECISION)
# On a device: there a precision that isn't reached would be an error.
_PLAN_THERE = replace(_PLAN, rounds=60, precision=None)


@dataclass(frozen=True)
class Cost:
    """Bytes and latency of a shape; `ratio` is to the reference in the same rounds."""

    bytes: int
    latency_us: float
    ratio: float
    low: float
    high: float

    def latency(self, limits: Limits) -> float:
        """Return the latency in the unit of the limits."""
        return self.ratio if limits.relative else self.latency_us

    def meets(self, limits: Limits) -> bool:
        """Tell whether the fine-tuned file will be within the limits."""
        return (
            self.bytes + FINE_TUNED_BYTES <= limits.bytes and self.latency(limits) <= limits.latency
        )

    @property
    def is_wide(self) -> bool:
        """Whether as many rounds as are worth while left the ratio less sure than is asked."""
        return (self.high - self.low) / 2 > _PRECISION * self.ratio

    def as_dict(self) -> dict[str, float]:
        """Return plain values."""
        return asdict(self)


class Stopwatch:
    """Measures shapes for one image size and number of classes against a reference.

    The reference is a TFLite file that takes int8, else ResNet-8 for the same images. `device` is
    where they are timed: this machine, or one as `edgecifar bench` names it.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        classes: int,
        reference: Path | None = None,
        device: str = LocalDevice.name,
    ):
        self.image_size, self.classes = image_size, classes
        self.here = device == LocalDevice.name
        self._reference, self._device = reference, device

    @cached_property
    def _race(self) -> "Int8Race | RemoteRace":
        """What times against the reference; a search that is taken up may have nothing to time."""
        import tf_keras as keras

        from edgecifar.benchmarks.search.remote import RemoteRace
        from edgecifar.compress.latency import Int8Race

        if self._reference:
            first = modelfile.read(self._reference).payload
        else:
            keras.utils.set_random_seed(0)  # a device that has the file keeps it
            first = models.find("resnet8").build(self.image_size, self.classes)
        # Random weights need no real images: the ranges they calibrate decide nothing here.
        noise = np.random.default_rng(0).integers(0, 256, (4, *self.image_size, 3), dtype=np.uint8)
        return Int8Race(first, noise) if self.here else RemoteRace(self._device, first, noise)

    def measure(self, shape: edgenet.Shape) -> Cost:
        """Convert a shape with random weights and time it in turns with the reference."""
        form = "folded" if shape.branches else None
        payload = self._race.convert(edgenet.build(shape, self.image_size, self.classes, form=form))
        found = self._race.time(payload, _PLAN if self.here else _PLAN_THERE)
        ratio = found.ratio
        return Cost(len(payload), found.latency.median, ratio.value, ratio.low, ratio.high)

    @property
    def measured_on(self) -> str | None:
        """What another device said of itself, when it last timed; None of this machine."""
        return None if self.here else self._race.measured_on
