"""What a bench compares: model files, each on the interpreters, threads and batches asked for."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime import modelfile
from edgecifar.runtime.backends import BACKENDS
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import PART_NAMES
from edgecifar.runtime.interpreters import Interpreter, choose_backend, open_unchecked
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.runtime.probe import probe
from edgecifar.runtime.results import pack_bits, pack_classes
from edgecifar.runtime.statistics import expected_calibration_error, wilson

if TYPE_CHECKING:
    from edgecifar.runtime.labelled import Labelled

Images = Mapping[tuple[int, int], "Labelled"]
"""Test images at each (height, width) that a model takes."""

_METADATA_KEPT = ("name", "architecture", "dataset", "accuracy", "created", "versions")
_LARGEST_SHIFT = 1 << 16  # bytes by which memory moves from load to load: some pages
_ACCURACY_BATCH = 1000  # images between two looks at the journal


@dataclass
class Candidate:
    """One row of a bench; ``result`` is what the JSON shows of it."""

    path: Path
    backend: str | None = None
    threads: int = 1
    batch: int = 1
    result: dict[str, Any] = field(default_factory=dict)
    model: ModelFile | None = None
    classifier: Classifier | None = None
    interpreter: Interpreter | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether there is something to measure."""
        return self.interpreter is not None

    @property
    def answers_as(self) -> tuple[list[Any] | str, str | None]:
        """What decides on the answers: threads and batches don't, description and labels do."""
        if not self.model:
            return str(self.path), self.backend
        described = (self.model.metadata or {}).get("metadata_sha256")
        labels = list(self.model.labels) if self.model.labels else None
        return [self.model.sha256, described, labels], self.backend


def expand(
    files: Sequence[Path],
    backends: Sequence[str | None],
    threads: Sequence[int],
    batches: Sequence[int],
) -> list[Candidate]:
    """Return a row for every combination that makes sense, the first file's first.

    Of several interpreters, each file gets those that read its format.
    """
    rows = []
    for path, count, batch in product(files, threads, batches):
        suitable = [name for name in backends if len(backends) == 1 or _reads(name, path)]
        # Where none is, the first says so when the file is loaded.
        rows += [Candidate(path, name, count, batch) for name in suitable or backends[:1]]
    order = {path: index for index, path in enumerate(dict.fromkeys(files))}
    rows.sort(key=lambda row: order[row.path])
    for row in rows:
        row.result |= {"name": row.path.stem, "file": str(row.path)}
        row.result |= {"threads": row.threads, "batch": row.batch}
        row.result |= {"backend_asked": row.backend} if row.backend else {}
    return rows


def _reads(backend: str | None, path: Path) -> bool:
    known = BACKENDS.get((backend or "").replace("_", "-"))
    try:
        return known is None or known.kind == modelfile.kind_of(path)
    except (EdgecifarError, OSError):  # which is told when it is loaded
        return True


def load(row: Candidate, *, timed: bool) -> None:
    """Load the model, in a child process first, and write down all but latency and accuracy.

    Raises:
        EdgecifarError: the file can't be read, or the interpreter can't run it.

    """
    row.model = model = modelfile.read(row.path)
    row.result |= {
        "name": model.name,
        "sha256": model.sha256,
        "file_bytes": model.file_bytes,
        "payload_bytes": len(model.payload),
        "zipped_bytes": len(zlib.compress(model.payload, 9)),
        "metadata": {k: v for k, v in (model.metadata or {}).items() if k in _METADATA_KEPT},
    }
    chosen = choose_backend(model.kind, row.backend)
    measured = asdict(probe(model, chosen.name, threads=row.threads, batch=row.batch))
    row.classifier = Classifier(model, backend=chosen.name)
    interpreter = open_unchecked(model, chosen, threads=row.threads, batch=row.batch)
    if not timed:
        measured |= {"load_ms": None, "first_us": None}
    row.result |= {
        "backend": interpreter.backend,
        "input": {
            "shape": list(interpreter.input.shape),
            "dtype": str(interpreter.input.dtype),
        },
        "latency_us": None,
        "ratio": None,
        **measured,
        "accuracy": None,
    }
    row.interpreter = interpreter


def call_of(row: Candidate, images: Images) -> Callable[[], object]:
    """One inference on real images, or on noise: an image of zeros could flatter a kernel."""
    tensor, run = input_of(row, images), row.interpreter.run
    return lambda: run(tensor)


def loader_of(row: Candidate, images: Images) -> Callable[[], Callable[[], object]]:
    """Return what loads the row anew, somewhere else in memory, and gives its call."""
    tensor, chosen = input_of(row, images), choose_backend(row.model.kind, row.backend)
    random = np.random.default_rng(0)

    def load_anew() -> Callable[[], object]:
        shift = np.ones(int(random.integers(1, _LARGEST_SHIFT)), np.uint8)
        run = open_unchecked(row.model, chosen, threads=row.threads, batch=row.batch).run
        pixels = tensor.copy()
        return lambda: (run(pixels), shift)

    return load_anew


def input_of(row: Candidate, images: Images) -> np.ndarray:
    """Return the tensor that the row is timed with."""
    shape = row.classifier.image_shape
    if images:
        picked = np.resize(np.arange(len(images[shape[:2]].images)), row.batch)
        pixels = images[shape[:2]].images[picked]
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (row.batch, *shape), dtype=np.uint8)
    encoded = [row.classifier.encode(np.ascontiguousarray(image)) for image in pixels]
    return np.concatenate(encoded)


def measure_accuracy(
    row: Candidate, images: Images, on_progress: Callable[[int, int], object]
) -> dict[str, Any]:
    """Classify every image: top-1 in percent with its interval, and the answer to each image.

    ``predicted`` holds the class of the data that the model took each image for, ``correct``
    whether it was right. ``ece`` is the expected calibration error, None where what comes out are
    no probabilities.

    Raises:
        EdgecifarError: the model doesn't have the classes of the data, or answers with NaN.

    """
    # One of its own: what it opens, one interpreter a core, goes again before the next file's.
    classifier = Classifier(row.model, backend=choose_backend(row.model.kind, row.backend).name)
    labelled = images[classifier.image_shape[:2]]
    positions = class_positions(row.model, classifier.classes, labelled.classes)
    total, found, said = len(labelled.labels), [], []
    for start in range(0, total, _ACCURACY_BATCH):
        batch = labelled.images[start : start + _ACCURACY_BATCH]
        answers = classifier.predict(batch)
        found.append(answers.indices)
        said.append(answers.probabilities)
        on_progress(min(total, start + _ACCURACY_BATCH), total)
    scores = np.concatenate(said)
    if spoilt := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise EdgecifarError(
            f"{row.model.path}: it answers {spoilt:,} of {total:,} images with no numbers (NaN): "
            "train it again at a lower rate, or export it as float32"
        )
    predicted = np.argsort(positions)[np.concatenate(found)]
    correct = predicted == labelled.labels
    top1 = wilson(int(correct.sum()), total)
    return {
        "top1": top1.value,
        "n": total,
        "low": top1.low,
        "high": top1.high,
        "ece": _calibration_error(scores[:, positions], labelled.labels),
        "correct": pack_bits(correct),
        "predicted": pack_classes(predicted, len(labelled.classes)),
    }


def caveat(model: ModelFile, labelled: "Labelled") -> str | None:
    """Return what may make an accuracy on these images another than it seems, if anything does."""
    if model.labels is None:
        return "it names no classes, so they are taken to be in the data's order"
    taught = ((model.metadata or {}).get("dataset") or {}).get("name")
    if labelled.of is None and taught == labelled.name and taught.lower() in PART_NAMES:
        return f"it was trained on images called {taught}: if on these, it knows most of them"
    return None


def _calibration_error(scores: np.ndarray, labels: np.ndarray) -> float | None:
    if scores.min() < 0 or scores.max() > 1.001:
        return None
    return expected_calibration_error(scores, labels)


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
    if strangers and classes == tuple(map(str, range(len(classes)))):
        raise EdgecifarError(
            f"{model.path}: it names its classes and the data number theirs: store the names in "
            "the .npz file, as `classes`"
        )
    if strangers:
        raise EdgecifarError(
            f"{model.path}: it doesn't know the class {strangers[0]!r} of the data: "
            "give the data it was trained for"
        )
    return np.array([outputs.index(name) for name in classes], dtype=np.int64)
