"""Latency of models on another device, against each other, through a bench there."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.benchmarks.devices.fleet import HERE, bench_on, device
from edgecifar.compress.latency import Timed
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime import environment, modelfile
from edgecifar.runtime.benchmark import Settings
from edgecifar.runtime.encoding import PIXEL_MINUS_128
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file
from edgecifar.runtime.interpreters import choose_backend
from edgecifar.runtime.statistics import Estimate, Latency
from edgecifar.runtime.timing import TimingPlan

if TYPE_CHECKING:
    import tf_keras as keras

_CREATED = "1980-01-01T00:00:00+00:00"  # equal models, equal files: a device keeps the reference


class RemoteRace:
    """Times models against a first one on the device `spec`, as `Int8Race` does on this machine.

    The first may be the bytes of a file. `calibration` are uint8 training images
    [n, height, width, 3]. Raises EdgecifarError for a device that gives no times.
    """

    def __init__(self, spec: str, first: "keras.Model | bytes", calibration: np.ndarray):
        self._spec, self._calibration = _timed(spec), calibration
        self._first = first if isinstance(first, bytes) else self.convert(first)
        self.measured_on: str | None = None  # what the device said of itself, when it last timed

    def convert(self, model: "keras.Model") -> bytes:
        """Return the int8 TFLite bytes of a model."""
        return to_tflite(model, "int8", self._calibration)

    def time(self, payload: bytes, plan: TimingPlan | None = None) -> Timed:
        """Time the bytes of a model against the first model's.

        Raises EdgecifarError if the device can't be reached, or gives reason to doubt its times.
        """
        settings = Settings(plan=plan or TimingPlan(), energy=False)
        payloads = {"reference": self._first, "candidate": payload}
        with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
            files = [_write(Path(folder), *named) for named in payloads.items()]
            (outcome,) = bench_on([self._spec], files, None, data=None, settings=settings)
        if outcome.errors:
            raise EdgecifarError(outcome.errors[0])
        if not outcome.result["valid"]:
            doubts = "; ".join(outcome.result["doubts"])
            raise EdgecifarError(f"{self._spec}: {doubts}: mend that and run it again")
        _, found = outcome.result["models"]
        told = outcome.result["environment"]
        processor = told["board"] or told["cpu"] or "an unknown processor"
        self.measured_on = f"{processor}, {found['backend']}"
        return Timed(Latency(**found["latency_us"]), Estimate(**found["ratio"]))


def machine_of(spec: str) -> str:
    """Return what tells the machine `spec` from others whose latencies can't stand beside its own.

    Raises EdgecifarError for a device that gives no times.
    """
    one = device(_timed(spec))
    if not isinstance(one, HERE):
        return spec
    processor = environment.cpu_model() or "an unknown processor"
    return f"{processor} ({', '.join(one.features()) or 'no features known'})"


def interpreter_of(spec: str) -> str:
    """Return what runs TFLite files on the machine `spec`, as far as it is known before a bench."""
    if not isinstance(device(spec), HERE):
        return "the device's own"
    backend = choose_backend("tflite")
    return f"{backend.name} {backend.version}"


def _timed(spec: str) -> str:
    if not device(spec).timed:
        raise EdgecifarError(f"{spec}: an emulated board gives no times: name a real one")
    return spec


def _write(folder: Path, name: str, payload: bytes) -> Path:
    """Write an int8 model as a file that says how it takes pixels, which a bench asks."""
    path = folder / f"{name}.tflite"
    replace_file(path, payload)
    described = {"name": name, "created": _CREATED, "input": {"encoding": PIXEL_MINUS_128}}
    modelfile.append(path, described, None)
    return path
