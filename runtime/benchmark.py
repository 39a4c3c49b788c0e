"""Measure model files against each other: latency, size, memory, and accuracy on given images."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime import environment, modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import Interpreter, choose_backend, open_unchecked
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.runtime.probe import probe
from edgecifar.runtime.statistics import latency, ratio, wilson
from edgecifar.runtime.timing import TimingPlan, time_interleaved

if TYPE_CHECKING:
    from edgecifar.runtime.labelled import Labelled

SCHEMA = 1  # of the result
_METADATA_KEPT = ("name", "architecture", "dataset", "accuracy", "created", "versions")
_ACCURACY_BATCH = 1000  # images between two reports of progress

Progress = Callable[[str], object]


@dataclass
class _Row:
    """One file on its way through the benchmark; ``result`` is what the JSON shows of it."""

    path: Path
    result: dict[str, Any] = field(default_factory=dict)
    model: ModelFile | None = None
    classifier: Classifier | None = None
    interpreter: Interpreter | None = None
    rounds: list[np.ndarray] = field(default_factory=list)

    @property
    def is_loaded(self) -> bool:
        return self.interpreter is not None


def bench(
    files: Sequence[Path],
    *,
    data: "Path | Labelled | None" = None,
    threads: int = 1,
    backend: str | None = None,
    plan: TimingPlan | None = None,
    on_progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measure files against the first one.

    Latency is that of set tensor, invoke, get tensor for one image, in rounds that take turns
    (see `timing`). Peak memory, load time and first inference come from a child process a
    model. Accuracy is top-1 in percent over ``data``, a path with test images in it or images
    already read, with a 95 % interval.

    Returns:
        The result as JSON holds it. The entry of a file that failed has an ``error``.

    Raises:
        EdgecifarError: ``data`` can't be read, or the plan or number of threads is impossible.

    """
    plan = plan or TimingPlan()
    if threads < 1:
        raise EdgecifarError(f"{threads} threads: give 1 or more")
    rows = [_Row(path, {"name": path.stem, "file": str(path)}) for path in files]
    for row in rows:
        on_progress(f"loading {row.path.name}")
        _catching(row, lambda row=row: _load(row, threads, backend))
    loaded = [row for row in rows if row.is_loaded]
    images = _read_images(loaded, data) if data else {}
    before = environment.describe()
    _measure_latency(rows, images, plan, on_progress)
    after = environment.state()
    for row in loaded if data else ():
        on_progress(f"accuracy of {row.path.name}")
        _catching(row, lambda row=row: _measure_accuracy(row, images))
    doubts = environment.doubts(before, after)
    return {
        "schema": SCHEMA,
        "kind": "bench",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": before,
        "environment_after": after,
        "valid": not doubts,
        "doubts": doubts,
        "settings": {"threads": threads, **asdict(plan)},
        "data": _describe_images(images),
        "models": [row.result for row in rows],
    }


def _catching(row: _Row, step: Callable[[], None]) -> None:
    try:
        step()
    except EdgecifarError as error:
        row.result["error"] = str(error)


def _load(row: _Row, threads: int, backend: str | None) -> None:
    """Load the model, in a child process first, and write down all but latency and accuracy."""
    row.model = model = modelfile.read(row.path)
    chosen = choose_backend(model.kind, backend)
    measured = probe(model, chosen.name, threads=threads)
    row.classifier = Classifier(model, backend=chosen.name)
    interpreter = open_unchecked(model, chosen, threads=threads)
    row.result |= {
        "name": model.name,
        "sha256": model.sha256,
        "file_bytes": model.file_bytes,
        "payload_bytes": len(model.payload),
        "backend": interpreter.backend,
        "input": {
            "shape": list(interpreter.input.shape),
            "dtype": str(interpreter.input.dtype),
        },
        "latency_us": None,
        "ratio": None,
        **asdict(measured),
        "accuracy": None,
        "metadata": {k: v for k, v in (model.metadata or {}).items() if k in _METADATA_KEPT},
    }
    row.interpreter = interpreter


def _read_images(
    rows: Sequence[_Row], data: "Path | Labelled"
) -> dict[tuple[int, int], "Labelled"]:
    """Read the test images at each size that a model takes, (height, width)."""
    from edgecifar.runtime.labelled import read_labelled

    sizes = dict.fromkeys(row.classifier.image_shape[:2] for row in rows if row.classifier)
    if not isinstance(data, Path):
        if set(sizes) - {data.images.shape[1:3]}:
            raise EdgecifarError("a model takes images of another size: give the images by path")
        return dict.fromkeys(sizes, data)
    return {size: read_labelled(data, image_size=size) for size in sizes}


def _describe_images(images: dict[tuple[int, int], "Labelled"]) -> dict[str, Any] | None:
    for labelled in images.values():
        return {
            "name": labelled.name,
            "fingerprint": labelled.fingerprint,
            "n": len(labelled.labels),
        }
    return None


def _measure_latency(
    rows: Sequence[_Row],
    images: dict[tuple[int, int], "Labelled"],
    plan: TimingPlan,
    on_progress: Progress,
) -> None:
    loaded = [row for row in rows if row.is_loaded]
    calls = [_call(row, images) for row in loaded]
    on_progress("warming up")
    samples = time_interleaved(
        calls, plan, on_round=lambda number: on_progress(f"round {number} of {plan.rounds}")
    )
    for row, rounds in zip(loaded, samples, strict=True):
        row.rounds = rounds
        row.result["latency_us"] = asdict(latency(rounds))
        if rows[0].rounds:
            row.result["ratio"] = asdict(ratio(rounds, rows[0].rounds))


def _call(row: _Row, images: dict[tuple[int, int], "Labelled"]) -> Callable[[], object]:
    """One inference on a real image, or on noise: an image of zeros could flatter a kernel."""
    shape = row.classifier.image_shape
    if images:
        image = images[shape[:2]].images[0]
    else:
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tensor, run = row.classifier.encode(np.ascontiguousarray(image)), row.interpreter.run
    return lambda: run(tensor)


def _measure_accuracy(row: _Row, images: dict[tuple[int, int], "Labelled"]) -> None:
    classifier = row.classifier
    labelled = images[classifier.image_shape[:2]]
    truth = class_positions(row.model, classifier.classes, labelled.classes)[labelled.labels]
    batches = range(0, len(truth), _ACCURACY_BATCH)
    found = [classifier.predict(labelled.images[a : a + _ACCURACY_BATCH]).indices for a in batches]
    correct = np.concatenate(found) == truth
    top1 = wilson(int(correct.sum()), len(correct))
    row.result["accuracy"] = {
        "top1": top1.value,
        "n": len(correct),
        "low": top1.low,
        "high": top1.high,
        # One bit an image, the first in the highest bit, for paired comparisons later.
        "correct": base64.b64encode(np.packbits(correct).tobytes()).decode(),
    }


def class_positions(
    model: ModelFile, outputs: tuple[str, ...], classes: tuple[str, ...]
) -> np.ndarray:
    """Find the model's output for each class of the data, int64 [classes].

    Classes are matched by name. A file that names none is taken to have them in the data's
    order.

    Raises:
        EdgecifarError: the model doesn't have the same classes as the data.

    """
    if len(outputs) != len(classes):
        raise EdgecifarError(
            f"{model.path}: it has {len(outputs)} classes and the data have {len(classes)}: "
            "give the data it was trained for"
        )
    if model.labels is None:
        return np.arange(len(classes))
    strangers = sorted(set(classes) - set(outputs))
    if strangers:
        raise EdgecifarError(
            f"{model.path}: it doesn't know the class {strangers[0]!r} of the data: "
            "give the data it was trained for"
        )
    return np.array([outputs.index(name) for name in classes], dtype=np.int64)
