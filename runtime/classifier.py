"""Classify images with a model file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np

from edgecifar.runtime import modelfile
from edgecifar.runtime.encoding import pixel_writer, score_decoder
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import Interpreter, TensorSpec, open_model
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.runtime.shipped import locate

_SMALLEST_SHARE = 8  # images a thread; fewer cost more to hand over than they save


@dataclass(eq=False, slots=True)
class Predictions:
    """Results for N images and C classes; one image gives N = 1.

    ``probabilities`` is float32 [N, C], ``indices`` intp [N] the most probable class of each
    image, ``classes`` the names of the C classes.
    """

    probabilities: np.ndarray
    indices: np.ndarray
    classes: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of the most probable class of each image."""
        return tuple(self.classes[index] for index in self.indices.tolist())

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """Return the ``k`` most probable (label, probability) pairs of each image, best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.classes[index], float(row[index])) for index in best]
            for row, best in zip(self.probabilities, order.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.indices)


class _Lane:
    """An interpreter, and the tensor by which images reach it."""

    def __init__(self, interpreter: Interpreter, model: ModelFile):
        spec = interpreter.input
        self.tensor = np.empty(spec.shape, spec.dtype)
        self.write = pixel_writer(self.tensor, spec, model.metadata)
        self._run = interpreter.run
        self._interpreter, self._path = interpreter, model.path

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Return the raw output [1, C] for one uint8 image of the right size."""
        self.write(image)
        try:
            return self._run(self.tensor)
        except Exception as error:  # each library has its own classes
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EdgecifarError(
                f"{self._path}: {self._interpreter.backend} can't run it ({reason}): "
                "copy or export it again"
            ) from error


class Classifier:
    """A model file, ready to classify.

    One image runs on one thread unless ``threads`` says otherwise; a batch is shared out to
    ``threads`` interpreters (by default one a core): as fast as one interpreter resized to a
    batch, and it serves models whose batch size is fixed too. Calls from several threads are
    safe, and take turns.

    Args:
        path: a .tflite or .onnx file, one already read, or the name of a model that ships with
            the runtime, one of which is the default.
        labels: the class names, or a text file with one a line; by default the file's own.
        threads: threads to use, 1 to 256.
        backend: "litert", "tflite-runtime", "tensorflow" or "onnxruntime"; by default the
            first that imports.

    Raises:
        EdgecifarError: the file is missing, damaged or no image classifier, the labels don't
            fit it, or no interpreter imports.

    """

    def __init__(
        self,
        path: Path | str | ModelFile | None = None,
        *,
        labels: Sequence[str] | Path | str | None = None,
        threads: int | None = None,
        backend: str | None = None,
    ):
        self.model = _model(path)
        self._backend = backend
        self.batch_threads = threads or _cores()
        alone = 1 if threads is None else threads
        self._single = alone == 1
        self._first = open_model(self.model, threads=alone, backend=backend)
        self._lock = Lock()
        try:
            self.image_shape = _image_shape(self._first)
            self._lane = _Lane(self._first, self.model)
            self._decode = score_decoder(self._first.output, self.model.metadata)
            self.classes = _class_names(self._first.output.shape, labels, self.model)
        except EdgecifarError as error:
            raise EdgecifarError(f"{self.model.path}: {error}") from error

    @property
    def backend(self) -> str:
        """Name and version of the interpreter."""
        return self._first.backend

    def predict(self, images: np.ndarray) -> Predictions:
        """Classify one image or a batch.

        Args:
            images: uint8 RGB pixels, [H, W, 3] or [N, H, W, 3]; another size than the model's
                is resized (bilinear, antialiased).

        Raises:
            EdgecifarError: the array is no such thing, or holds no image.

        """
        if (
            isinstance(images, np.ndarray)
            and images.shape == self.image_shape
            and images.dtype == np.uint8
        ):
            with self._lock:
                scores = self._lane.scores(images)
        else:
            batch = self._checked(images)
            with self._lock:
                scores = self._run_batch(batch)
        probabilities = self._decode(scores)
        return Predictions(probabilities, probabilities.argmax(1), self.classes)

    @property
    def output(self) -> TensorSpec:
        """The output tensor of the file, [1, classes]."""
        return self._first.output

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Return the raw output tensor [1, classes] for one uint8 image of the right size."""
        with self._lock:
            return self._lane.scores(image)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Turn raw outputs [N, classes] into float32 probabilities of the same shape."""
        return self._decode(scores)

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Turn one uint8 image [H, W, 3] of the right size into the input tensor [1, H, W, 3]."""
        with self._lock:
            self._lane.write(image)
            return self._lane.tensor.copy()

    def _checked(self, images: np.ndarray) -> np.ndarray:
        """Return the batch [N, H, W, 3] at the model's size."""
        if not isinstance(images, np.ndarray):
            raise EdgecifarError(
                f"images are a {type(images).__name__}: give a NumPy array of uint8 pixels"
            )
        if images.dtype != np.uint8:
            raise EdgecifarError(f"images are {images.dtype}: give uint8 pixels from 0 to 255")
        if images.ndim not in (3, 4) or images.shape[-1] != 3 or images.size == 0:
            raise EdgecifarError(
                f"images have the shape {images.shape}: give [H, W, 3] or [N, H, W, 3]"
            )
        batch = images[None] if images.ndim == 3 else images
        height, width, _ = self.image_shape
        if batch.shape[1:3] == (height, width):
            return batch
        from edgecifar.runtime.images import resize

        return np.stack([resize(image, height, width) for image in batch])

    def _run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Scores [N, C] of a batch, on as many interpreters as are worth it."""
        out = np.empty((len(batch), *self._first.output.shape[1:]), self._first.output.dtype)
        shares = min(self.batch_threads, max(1, len(batch) // _SMALLEST_SHARE))
        if shares == 1:
            _run_share(self._lane, batch, out)
            return out
        from concurrent.futures import ThreadPoolExecutor

        bounds = np.linspace(0, len(batch), shares + 1).astype(int)
        parts = list(zip(self._lanes(shares), bounds[:-1], bounds[1:], strict=True))
        with ThreadPoolExecutor(shares) as pool:
            jobs = [pool.submit(_run_share, lane, batch[a:b], out[a:b]) for lane, a, b in parts]
            for job in jobs:
                job.result()
        return out

    def _lanes(self, count: int) -> list[_Lane]:
        """Return so many single-threaded interpreters, which stay for later batches."""
        while len(self._team) < count:
            interpreter = open_model(self.model, threads=1, backend=self._backend)
            self._team.append(_Lane(interpreter, self.model))
        return self._team[:count]

    @cached_property
    def _team(self) -> list[_Lane]:
        return [self._lane] if self._single else []


def _run_share(lane: _Lane, batch: np.ndarray, out: np.ndarray) -> None:
    for row, image in enumerate(batch):
        out[row] = lane.scores(image)[0]


def _model(path: Path | str | ModelFile | None) -> ModelFile:
    if isinstance(path, ModelFile):
        return path
    return modelfile.read(locate(path))


def _cores() -> int:
    """Cores that this process may use, which a container or taskset can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _image_shape(interpreter: Interpreter) -> tuple[int, int, int]:
    shape, scores = interpreter.input.shape, interpreter.output.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise EdgecifarError(f"its input is {list(shape)}: give a model for RGB [1, H, W, 3]")
    if len(scores) != 2 or scores[0] != 1:
        raise EdgecifarError(f"its output is {list(scores)}: give a classifier with [1, classes]")
    if scores[1] < 2:
        raise EdgecifarError("it gives one number: give a classifier with a score for each class")
    return shape[1:]


def _class_names(
    output_shape: tuple[int, ...], labels: Sequence[str] | Path | str | None, model: ModelFile
) -> tuple[str, ...]:
    count = output_shape[1]
    if isinstance(labels, (str, Path)):
        names, source = modelfile.read_labels(labels), str(labels)
    elif labels is not None:
        names, source = tuple(labels), "labels"
    else:
        names, source = model.labels, "its labels.txt"
    if names is None:
        return tuple(f"class {index}" for index in range(count))
    if len(names) != count:
        raise EdgecifarError(
            f"it has {count} classes and {source} names {len(names)}: give one label a class"
        )
    return names
