"""Export a run's model to files for devices, each checked and compared with Keras first."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.buffers import require_zeros
from edgecifar.compress.divergence import LayerError, first_diverging, layer_errors
from edgecifar.compress.formats import FORMATS, PARITY_IMAGES, Format
from edgecifar.compress.int8 import NAME, Int8, range_warnings
from edgecifar.compress.masks import count_zeros
from edgecifar.compress.parity import LEAST_AGREEMENT, Parity, compare
from edgecifar.compress.sensitivity import Track
from edgecifar.compress.tflite import is_quantization_aware
from edgecifar.runtime import golden, modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing
from edgecifar.train.evaluate import predict
from edgecifar.train.files import read_json, write_json, write_whole
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

# Above float32 rounding (1e-6 on nets of this depth), far below what a wrong graph would give.
_FLOAT_TOLERANCE = 1e-3
_RECORD = "exports.json"


@dataclass(frozen=True)
class Exported:
    """A file that passed its checks."""

    path: Path
    format: str
    payload_bytes: int
    keras_bytes: int  # of the Keras model's weights in float32
    parity: Parity
    computes: str = ""  # what its operations compute in, if it is to be int8 or int16x8
    diverging: LayerError | None = None  # looked for where fewer answers agree than should

    @property
    def verdict(self) -> str:
        """One line that says what the file has lost against Keras."""
        text = self.parity.text
        if self.parity.agreement < LEAST_AGREEMENT:
            where = self.diverging or "rounding adds up, no layer stands out"
            text = f"{text}; less than {LEAST_AGREEMENT:.0f} % agree: {where}"
        return f"{text}; {self.computes}" if self.computes else text

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dataclasses.asdict(self) | {"path": str(self.path), "verdict": self.verdict}
        return plain | {"first_diverging_layer": plain.pop("diverging")}


def export(
    run: Run,
    dataset: "Dataset",
    formats: Iterable[str],
    *,
    folder: Path | None = None,
    force: bool = False,
    int8: Int8 | None = None,
    report: Callable[[str], object] = lambda text: None,
    track: Track = iter,
) -> list[Exported]:
    """Write the run's model in each of `formats` to `folder`, by default the run's `exports`.

    `int8` says which layers stay in float and what ranges are taken from; `report` gets warnings,
    `track` shows progress. What was found of each file is kept beside them in exports.json, in
    the run's own folder if the files go there. Raises EdgecifarError before any work if a file is
    there already (without `force`), and without leaving a file if an int8 file computes in floats
    or a float file differs from Keras.
    """
    names, int8 = list(formats), int8 or Int8()
    folder = folder or run.exports
    model = run.load_model()
    int8.require_fit(run, model, dataset, names)
    forms = {name: FORMATS[name] for name in names} | {NAME: int8.format(run)}
    searched = {NAME} if int8.max_drop is not None else set()
    for name in names:
        _require_possible(run, model, forms[name])
        if name not in searched:
            refuse_existing(folder / forms[name].file_name(run.name), force=force)
    run.require_data(dataset)
    calibration = int8.images(dataset)
    if searched:
        forms[NAME] = int8.format_within_budget(model, dataset, calibration, report, track)
        refuse_existing(folder / forms[NAME].file_name(run.name), force=force)
    reference = _reference(run, model, dataset)
    exported = []
    for form in [forms[name] for name in names]:
        path = folder / form.file_name(run.name)

        def write(partial: Path, form: Format = form, path: Path = path) -> None:
            partial.write_bytes(form.convert(model, calibration))
            require_zeros(partial.read_bytes(), count_zeros(model), name=path.name)
            found, proof = _check(partial, path, form, model, reference)
            description = describe(run, form, found.parity, path.stem) | {"golden": proof}
            modelfile.append(partial, description, dataset.classes)
            exported.append(found)

        write_whole(path, write)
        if form.name == NAME and form.suffix == ".tflite":
            for line in range_warnings(model, modelfile.read(path).payload, calibration):
                report(line)
    _record(exported, (run.path if folder == run.exports else folder) / _RECORD)
    return exported


def _require_possible(run: Run, model: "keras.Model", form: Format) -> None:
    if not form.takes_fine_tuned and is_quantization_aware(model):
        raise EdgecifarError(
            f"{run.name} was fine-tuned for int8: export {form.name} from "
            f"{run.info['parent']}, the run it came from"
        )


def _record(exported: list[Exported], path: Path) -> None:
    """Add what was found of files to that of earlier ones; a file of the same name is replaced."""
    files = read_json(path)["files"] if path.exists() else {}
    files |= {item.path.name: item.as_json() for item in exported}
    write_json(path, {"schema": 1, "files": files})


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
    } | ({"float_layers": list(form.float_layers)} if form.float_layers else {})


@dataclass(frozen=True)
class _Reference:
    """What Keras says of the validation images that every file is compared on."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    probabilities: np.ndarray
    weights: int  # bytes of the Keras model's parameters in float32

    def compare(self, classifier: Classifier, count: int) -> Parity:
        """Compare what `classifier` says of the first `count` images."""
        found = classifier.predict(self.images[:count]).probabilities
        return compare(self.probabilities[:count], found, self.labels[:count], self.classes)


def _reference(run: Run, model: "keras.Model", dataset: "Dataset") -> _Reference:
    from edgecifar.train.data import Split

    validation, weights = dataset.validation, 4 * run.info["parameters"]
    sample = Split(validation.images[:PARITY_IMAGES], validation.labels[:PARITY_IMAGES])
    said = predict(model, sample)
    return _Reference(sample.images, sample.labels, dataset.classes, said, weights)


def _check(
    partial: Path, path: Path, form: Format, model: "keras.Model", reference: _Reference
) -> tuple[Exported, dict[str, Any]]:
    """Compare the bare file at `partial`, which will be at `path`.

    Returns what was found, and golden outputs for a device to compute again.
    """
    bare = partial.read_bytes()
    computes = form.inspect(bare, model, path.name)
    described = {"name": path.name, "input": {"encoding": form.encoding}}
    modelfile.append(partial, described, reference.classes)
    file = modelfile.read(partial)
    classifier = Classifier(file)
    parity = reference.compare(classifier, form.images)
    wrong = form.exact and parity.largest_difference > _FLOAT_TOLERANCE
    diverging = None
    if wrong or parity.agreement < LEAST_AGREEMENT:
        errors = layer_errors(model, file, reference.images)
        diverging = first_diverging(errors, form.layer_limit)
    if wrong:
        raise EdgecifarError(
            f"{path.name} differs from Keras by {parity.largest_difference:.3g} in a probability "
            f"({diverging}): an operation was converted wrongly, no file was written"
        )
    tolerance, elsewhere = form.tolerances
    proof = golden.record(classifier, tolerance=tolerance, elsewhere=elsewhere)
    size = len(file.payload)
    exported = Exported(path, form.name, size, reference.weights, parity, computes, diverging)
    return exported, proof
