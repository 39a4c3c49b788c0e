"""Export a run's model to files for devices, each checked and compared with Keras first."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress import onnx, tflite
from edgecifar.compress.buffers import require_zeros
from edgecifar.compress.inspect import require_int8
from edgecifar.compress.masks import count_zeros
from edgecifar.compress.parity import Parity, compare
from edgecifar.runtime import golden, modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing
from edgecifar.train.evaluate import predict
from edgecifar.train.files import write_whole
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

CALIBRATION_IMAGES = 500
PARITY_IMAGES = 1000
# Above float32 rounding (1e-6 on nets of this depth), far below what a wrong graph would give.
_FLOAT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Format:
    """A kind of file: its name in file names and options, and how to make its bytes."""

    name: str
    suffix: str
    encoding: str  # what the input tensor holds for a pixel
    exact: bool  # whether it computes what Keras computes, but for float32 rounding
    convert: Callable[["keras.Model", np.ndarray], bytes]
    # Largest difference of a probability on another machine: in the same interpreter, in another.
    tolerances: tuple[float, float] = (1e-4, 1e-4)  # float sums depend on their order

    def file_name(self, run: str) -> str:
        """Return such as `resnet8-qat-int8.tflite`."""
        return f"{run}-{self.name}{self.suffix}"


# LiteRT's integer kernels give the same bits everywhere but for softmax, whose table on 64-bit Arm
# is another than on x86: one of its 256 steps. Another interpreter rounds elsewhere, which moves
# probabilities of an unsure model by a few. float16 weights may be multiplied in float16, and
# dynamic activations are rounded after float sums.
_TOLERANCES = {"int8": (1 / 256, 0.1), "float16": (0.01, 0.01), "dynamic": (0.02, 0.1)}


def _tflite(kind: tflite.Kind) -> Format:
    return Format(
        name=kind,
        suffix=".tflite",
        encoding="pixel-128" if kind == "int8" else "pixel",
        exact=kind == "float32",
        convert=lambda model, images: tflite.to_tflite(model, kind, images),
        **({"tolerances": _TOLERANCES[kind]} if kind in _TOLERANCES else {}),
    )


FORMATS: dict[str, Format] = {kind: _tflite(kind) for kind in tflite.KINDS} | {
    "onnx": Format("float32", ".onnx", "pixel", True, lambda model, _: onnx.to_onnx(model))
}


@dataclass(frozen=True)
class Exported:
    """A file that passed its checks."""

    path: Path
    format: str
    payload_bytes: int
    parity: Parity


def export(
    run: Run,
    dataset: "Dataset",
    formats: Iterable[str],
    *,
    folder: Path | None = None,
    force: bool = False,
) -> list[Exported]:
    """Write the run's model in each of `formats` to `folder`, by default the run's `exports`.

    Raises EdgecifarError before any work if a file is there already (without `force`), and
    without leaving a file if an int8 file holds a float operation or a float file differs from
    Keras.
    """
    chosen = [FORMATS[name] for name in formats]
    folder = folder or run.path / "exports"
    model = run.load_model()
    for form in chosen:
        refuse_existing(folder / form.file_name(run.name), force=force)
        if form.name != "int8" and tflite.is_quantization_aware(model):
            raise EdgecifarError(
                f"{run.name} was fine-tuned for int8: export {form.name} from "
                f"{run.info['parent']}, the run it came from"
            )
    run.require_data(dataset)
    calibration = calibration_images(dataset)
    reference = _reference(model, dataset)
    exported = []
    for form in chosen:
        path = folder / form.file_name(run.name)

        def write(partial: Path, form: Format = form, path: Path = path) -> None:
            partial.write_bytes(form.convert(model, calibration))
            if form.suffix == ".tflite":
                require_zeros(partial.read_bytes(), count_zeros(model), name=path.name)
            parity, proof = _check(partial, path.name, form, reference)
            description = describe(run, form, parity, path.stem) | {"golden": proof}
            modelfile.append(partial, description, dataset.classes)
            payload = len(modelfile.read(partial).payload)
            exported.append(Exported(path, form.name, payload, parity))

        write_whole(path, write)
    return exported


def calibration_images(dataset: "Dataset", count: int = CALIBRATION_IMAGES) -> np.ndarray:
    """Return uint8 training images [about count, height, width, 3], the same number a class."""
    labels = np.asarray(dataset.train.labels)
    each = max(1, count // len(dataset.classes))
    chosen = [np.flatnonzero(labels == index)[:each] for index in range(len(dataset.classes))]
    return dataset.train.images[np.sort(np.concatenate(chosen))]


def describe(run: Run, form: Format, parity: Parity, name: str) -> dict[str, Any]:
    """Return what the file says of itself, but for what `modelfile.append` adds."""
    info = run.info
    return {
        "name": name,
        "architecture": info["architecture"],
        "input": {
            "shape": [1, *info["image_size"], 3],
            "encoding": form.encoding,
        },
        "dataset": info["dataset"],
        "recipe": info["recipe"],
        "seed": info["seed"],
        "parameters": info["parameters"],
        "macs": info["macs"],
        "accuracy": {
            "float": parity.keras | {"split": "validation"},
            "this": parity.file | {"split": "validation"},
        },
        "parity": {
            key: value
            for key, value in dataclasses.asdict(parity).items()
            if key not in ("keras", "file")
        },
        "versions": info["versions"],
    }


@dataclass(frozen=True)
class _Reference:
    """What Keras says of the validation images that every file is compared on."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    probabilities: np.ndarray


def _reference(model: "keras.Model", dataset: "Dataset") -> _Reference:
    from edgecifar.train.data import Split

    validation = dataset.validation
    sample = Split(validation.images[:PARITY_IMAGES], validation.labels[:PARITY_IMAGES])
    return _Reference(sample.images, sample.labels, dataset.classes, predict(model, sample))


def _check(
    partial: Path, name: str, form: Format, reference: _Reference
) -> tuple[Parity, dict[str, Any]]:
    """Compare the bare file at `partial`, which gets the name that errors call it by.

    Returns what was found, and golden outputs for a device to compute again.
    """
    if form.name == "int8":
        require_int8(partial.read_bytes(), name=name)
    described = {"name": name, "input": {"encoding": form.encoding}}
    modelfile.append(partial, described, reference.classes)
    classifier = Classifier(partial)
    probabilities = classifier.predict(reference.images).probabilities
    parity = compare(reference.probabilities, probabilities, reference.labels, reference.classes)
    if form.exact and parity.largest_difference > _FLOAT_TOLERANCE:
        raise EdgecifarError(
            f"{name} differs from Keras by {parity.largest_difference:.3g} in a probability: "
            "an operation was converted wrongly, no file was written"
        )
    tolerance, elsewhere = form.tolerances
    return parity, golden.record(classifier, tolerance=tolerance, elsewhere=elsewhere)
