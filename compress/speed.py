"""What exported files gain in speed on this machine over the float32 file of their original."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecifar.compress.bare import open_bare
from edgecifar.compress.formats import FORMATS
from edgecifar.compress.latency import call_of
from edgecifar.runtime import modelfile
from edgecifar.runtime.interpreters import open_model
from edgecifar.runtime.statistics import Estimate, latency, ratio
from edgecifar.runtime.timing import time_interleaved
from edgecifar.train.run import Run

_NO_IMAGES = np.empty((0, 0, 0, 3), np.uint8)  # float32 takes no ranges


@dataclass(frozen=True)
class Speed:
    """Median microseconds of one image on one thread, and its ratio to the float32 TFLite file."""

    us: float
    ratio: Estimate

    @property
    def text(self) -> str:
        """Say whether the file is faster, with the interval that leaves no doubt of it."""
        found = self.ratio
        times = f"{found.value:.2f}x the time, {found.low:.2f} to {found.high:.2f}"
        if found.high < 1:
            return f"{1 / found.value:.2f}x faster than float32 on this machine ({times})"
        return f"not faster than float32 on this machine ({times})"


def measure_speed(original: Run, files: Sequence[Path]) -> list[Speed]:
    """Time exported files, TFLite or ONNX, in turns with the float32 TFLite file of `original`."""
    plain = FORMATS["float32"].convert(original.load_model(), _NO_IMAGES)
    loaded = [open_bare(plain), *(open_model(modelfile.read(path)) for path in files)]
    first, *others = time_interleaved([call_of(interpreter) for interpreter in loaded])
    return [Speed(latency(each).median, ratio(each, first)) for each in others]
