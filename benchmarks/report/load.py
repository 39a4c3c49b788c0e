"""What a report is made of: run folders and bench results, read into typed views.

Only what identifies an input is required; every other part may be missing and is None or empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks.against import PEERS
from edgecifar.benchmarks.statistics import Calibration, calibration, confident_mistakes
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.run import Run as StoredRun

if TYPE_CHECKING:
    from edgecifar.benchmarks.targets import Target

SCHEMA = 1
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8")


_NO_MATTER = 0.05  # of a time, more or less


@dataclass(frozen=True)
class Accuracy:
    """Top-1 in percent with its 95 % interval; `correct` bool [n] where it was kept.

    `ece` is the expected calibration error as a fraction, None where it wasn't measured.
    """

    top1: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    correct: np.ndarray | None = None
    ece: float | None = None


@dataclass(frozen=True)
class Latency:
    """Time of one inference in microseconds; `low` and `high` bound the median."""

    median: float
    p90: float | None = None
    p99: float | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Speedup:
    """How many times faster than the first file of the bench, with its interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def faster(self) -> bool:
        """Whether the whole interval says so."""
        return (self.low or self.value) > 1

    @property
    def slower(self) -> bool:
        """Whether the whole interval says so."""
        return (self.high or self.value) < 1

    @property
    def same(self) -> bool:
        """Whether the interval leaves no room for a difference that matters."""
        low, high = self.low or self.value, self.high or self.value
        return max(1 - low, high - 1) < _NO_MATTER


@dataclass(frozen=True)
class Measured:
    """One model file in a bench; `error` says why it could not be measured.

    `predicted` int64 [n] is the class of the data that each image was taken for, if kept.
    """

    name: str
    raw: Mapping[str, Any]
    latency: Latency | None
    speedup: Speedup | None
    accuracy: Accuracy | None
    error: str | None = None
    predicted: np.ndarray | None = None

    @property
    def energy(self) -> float | None:
        """Millijoules of one call, where the device measures them."""
        return (self.raw.get("energy_mj") or {}).get("median")

    @property
    def file_bytes(self) -> int | None:
        """Size of the file as it ships."""
        return self.raw.get("file_bytes")

    @property
    def payload_bytes(self) -> int | None:
        """Size of the model without metadata, which files of others don't have."""
        return self.raw.get("payload_bytes") or self.file_bytes

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the file says of itself."""
        return self.raw.get("metadata") or {}

    @property
    def suffix(self) -> str:
        """What the file's name ends in."""
        return Path(str(self.raw.get("file", ""))).suffix.lower()

    @property
    def kind(self) -> str:
        """Number format and file format, such as `int8 TFLite`; of a known peer what it is."""
        stem = Path(str(self.raw.get("file", ""))).stem
        if stem in PEERS and not self.metadata:
            return f"MLPerf Tiny's {PEERS[stem]}"
        container = {".tflite": "TFLite", ".onnx": "ONNX"}.get(self.suffix, "")
        named = [part for part in self.name.replace("_", "-").split("-") if part in FORMATS]
        number = named[-1] if named else (self.raw.get("input") or {}).get("dtype", "")
        return f"{number} {container}".strip()


@dataclass(frozen=True)
class Bench:
    """One bench result: several files, measured in one run on one device.

    `targets` are what files of it were to reach, `alias` tells its device from another of its kind.
    """

    source: Path
    raw: Mapping[str, Any]
    models: tuple[Measured, ...]
    targets: "tuple[Target, ...]" = ()
    alias: str = ""

    @property
    def environment(self) -> Mapping[str, Any]:
        """Where it was measured."""
        return self.raw.get("environment") or {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it was measured."""
        return self.raw.get("settings") or {}

    @property
    def data(self) -> Mapping[str, Any]:
        """Name, fingerprint and number of the images; empty if accuracy was not measured."""
        return self.raw.get("data") or {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the images, if kept."""
        return tuple(self.data.get("classes") or ())

    @property
    def labels(self) -> np.ndarray | None:
        """True class of each image, int64 [n], if kept."""
        stored = self.data.get("labels")
        return results.unpack_classes(stored, len(self.classes)) if stored else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The (height, width) that the first file takes, if kept."""
        shapes = [tuple((row.raw.get("input") or {}).get("shape") or ()) for row in self.models]
        return next((shape[1:3] for shape in shapes if shape[3:] == (3,)), None)


@dataclass(frozen=True)
class Export:
    """An exported file of a run and what it says of itself."""

    name: str
    path: Path
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One run folder.

    `history` has a float array for each column of history.csv; `metrics` one entry a split;
    `labels` int [n] belong to the test images, if kept; so do `calibration`, `correct`, bool [n],
    and `mistakes`, those of `confident_mistakes`.
    """

    path: Path
    info: Mapping[str, Any]
    history: Mapping[str, np.ndarray]
    metrics: Mapping[str, Mapping[str, Any]]
    labels: np.ndarray | None
    exports: tuple[Export, ...]
    calibration: Calibration | None = None
    correct: np.ndarray | None = None
    mistakes: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name, such as `resnet8-qat`."""
        return self.info.get("name") or self.path.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return tuple(self.info.get("classes") or ())

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Name and fingerprint of the images."""
        return self.info.get("dataset") or {}

    @property
    def split(self) -> str | None:
        """The split whose figures the report shows: the test images, else those of validation."""
        return next((split for split in ("test", "validation") if split in self.metrics), None)

    @property
    def accuracy(self) -> Accuracy | None:
        """Top-1 on `split`, with the right answers image by image where predictions were kept."""
        if self.split is None:
            return None
        correct = self.correct if self.split == "test" else None
        return _accuracy(self.metrics[self.split], correct)


def sort_inputs(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Tell run folders from bench results: (folders, files)."""
    runs, benches = [], []
    for path in paths:
        if not path.exists():
            raise EdgecifarError(f"{path}: no such run folder or bench result: check the path")
        (runs if path.is_dir() else benches).append(path)
    return runs, benches


def load_run(path: Path) -> Run:
    """Read the run folder `path`; an unfinished run is shown as far as it came."""
    if not (path / "run.json").exists():
        raise EdgecifarError(f"{path} is not a run: give a folder that `edgecifar train` wrote")
    stored = StoredRun(path)
    info = stored.info
    _require_schema(path / "run.json", info)
    probabilities, labels = stored.predictions("test") or (None, None)
    files = sorted((path / "exports").glob("[!.]*.*"))
    exports = tuple(_export(file) for file in files if file.suffix in (".tflite", ".onnx"))
    known = {}
    if probabilities is not None:
        known = {
            "calibration": calibration(probabilities, labels),
            "correct": probabilities.argmax(axis=1) == labels,
            "mistakes": confident_mistakes(probabilities, labels),
        }
    return Run(path, info, stored.history(), stored.metrics, labels, exports, **known)


def load_bench(path: Path) -> Bench:
    """Read the bench result `path`; one that was edited by hand is refused."""
    return parse_bench(path, results.read(path))


def parse_bench(path: Path, raw: Mapping[str, Any]) -> Bench:
    """Read a bench result that came from `path`."""
    entries = raw.get("models") or []
    if not entries:
        raise EdgecifarError(f"{path} has no models: run the bench again")
    try:
        classes = len((raw.get("data") or {}).get("classes") or ())
        return Bench(path, raw, tuple(_measured(entry, classes) for entry in entries))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise EdgecifarError(f"{path} is damaged at {error}: run the bench again") from error


def _require_schema(path: Path, raw: Mapping[str, Any]) -> None:
    if raw.get("schema") != SCHEMA:
        raise EdgecifarError(
            f"{path} has schema {raw.get('schema')} and this edgecifar reads {SCHEMA}: "
            "write it again with this version"
        )


def _measured(entry: Mapping[str, Any], classes: int) -> Measured:
    latency, ratio = entry.get("latency_us"), entry.get("ratio")
    accuracy = entry.get("accuracy")
    correct = predicted = None
    if accuracy and accuracy.get("predicted"):
        predicted = results.unpack_classes(accuracy["predicted"], classes)
    if accuracy and accuracy.get("correct"):
        correct = results.unpack_bits(accuracy["correct"], accuracy["n"])
    return Measured(
        name=entry["name"],
        raw=entry,
        latency=Latency(**_known(Latency, latency)) if latency else None,
        speedup=_speedup(ratio) if ratio else None,
        accuracy=_accuracy(accuracy, correct) if accuracy else None,
        error=entry.get("error"),
        predicted=predicted,
    )


def _accuracy(values: Mapping[str, Any], correct: np.ndarray | None) -> Accuracy:
    interval = values.get("low"), values.get("high")
    return Accuracy(values["top1"], *interval, values["n"], correct, values.get("ece"))


def _speedup(ratio: Mapping[str, Any]) -> Speedup:
    """Turn a bench's ratio of latencies, below 1 where faster, into a speed-up."""
    low, high = (1 / ratio[key] if ratio.get(key) else None for key in ("high", "low"))
    return Speedup(1 / ratio["value"], low, high)


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in kind.__dataclass_fields__ if key in values}


def _export(path: Path) -> Export:
    from edgecifar.runtime import modelfile

    file = modelfile.read(path)
    return Export(file.name, path, file.metadata or {})
