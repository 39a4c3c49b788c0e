"""Export a run's model to files for devices, each checked and compared with Keras first."""

import dataclasses
import glob
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.bare import open_bare
from edgecifar.compress.buffers import require_zeros
from edgecifar.compress.confidence import divide_logits, divisor
from edgecifar.compress.divergence import LayerError, first_diverging, layer_errors
from edgecifar.compress.formats import FORMATS, Format
from edgecifar.compress.int8 import INT8, Int8, range_warnings
from edgecifar.compress.latency import Timed, call_of, doubtful, faster, race
from edgecifar.compress.masks import zeros_of
from edgecifar.compress.parity import LEAST_AGREEMENT, Parity, compare
from edgecifar.compress.sensitivity import Track
from edgecifar.runtime import golden, modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.description import divided
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing
from edgecifar.runtime.interpreters import open_model
from edgecifar.train.adopt.adoption import STAGE as ADOPTED
from edgecifar.train.evaluate import accuracy, predict
from edgecifar.train.files import alone_in, read_json, write_json, write_whole
from edgecifar.train.keras_files import is_quantization_aware
from edgecifar.train.progress import Report, ignore
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

# Above float32 rounding (1e-6 on nets of this depth), far below what a wrong graph would give.
_FLOAT_TOLERANCE = 1e-3
# Files are compared on as many validation images as take seconds, 5,000 with 200 M MACs each.
_PARITY_MACS, _LEAST_IMAGES = 10**12, 1000
_RECORD = "exports.json"
_YARDSTICKS = {"tflite": "float32", "onnx": "onnx"}  # what files of a kind are raced against
_NO_IMAGES = np.empty((0, 0, 0, 3), np.uint8)  # float32 takes no ranges


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
    timed: Timed | None = None  # against the float32 file of its kind, if that was asked for

    @property
    def verdict(self) -> str:
        """One line that says what the file has lost against Keras."""
        text = self.parity.text
        if self.parity.agreement < LEAST_AGREEMENT:
            where = self.diverging or "rounding adds up, no layer stands out"
            text = f"{text}; less than {LEAST_AGREEMENT:.0f} % agree: {where}"
            if self.format == INT8 and not self.parity.original:  # which is fine-tuned otherwise
                text += ", which `edgecifar quantize`, or layers in float, may mend"
        text = f"{text}; {self.computes}" if self.computes else text
        if not self.timed or self.format == "float32":
            return text
        plain = "float32 ONNX" if self.path.suffix == ".onnx" else "float32"
        return f"{text}; {faster(self.timed.ratio, plain)}{doubtful(self.timed.doubts)}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dataclasses.asdict(self) | {"path": str(self.path), "verdict": self.verdict}
        return plain | {"first_diverging_layer": plain.pop("diverging")}


class PartlyExportedError(EdgecifarError):
    """Some formats failed, and `exported` are the others' files."""

    def __init__(self, problem: str, exported: "Sequence[Exported]"):
        super().__init__(problem)
        self.exported = tuple(exported)


def export(
    run: Run,
    dataset: "Dataset",
    formats: Iterable[str],
    *,
    folder: Path | None = None,
    force: bool = False,
    int8: Int8 | None = None,
    timed: bool = False,
    report: Report = ignore,
    track: Track = iter,
) -> list[Exported]:
    """Write the run's model in each of `formats` to `folder`, by default the run's `exports`.

    The logits are divided by one number, so that probabilities are as high as answers are right.
    `int8` says which layers stay in float and what ranges are taken from; `report` gets warnings,
    `track` shows progress. With `timed` the files are raced against the float32 original's of
    their kind, if that is there. What was found of each file is kept beside them in exports.json,
    in the run's own folder if the files go there. Raises EdgecifarError before any work if a file
    is there already (without `force`) or another process is at work in `folder`, and without
    leaving a file if an int8 file computes in floats or a float file differs from Keras. The other
    formats are written all the same: PartlyExportedError then tells which were.
    """
    int8, folder = int8 or Int8(), folder or run.exports
    model = run.load_model()
    forms = _formats(run, model, dataset, list(formats), int8)
    _refuse_files(run, folder, forms.values(), searched=int8.max_drop is not None, force=force)
    _require_own(_record_of(run, folder))
    run.require_data(dataset)
    with alone_in(folder):
        number = _calibrate(run, model, report)
        calibration = int8.images(model, dataset, forms.values())
        if int8.max_drop is not None:
            found = int8.formats_within_budget(model, dataset, calibration, report, track)
            forms |= {name: found[name] for name in forms if name in found}
            _refuse_files(run, folder, forms.values(), force=force)
        reference = _reference(run, model, dataset)
        job = _Job(run, model, number, dataset.classes, calibration, reference)
        exported, failed, warned = [], [], set()
        for form in forms.values():
            path = folder / form.file_name(run.name)
            try:
                exported.append(job.write(form, path))
            except EdgecifarError as error:
                failed.append(error)
                continue
            _record(exported[-1], _record_of(run, folder))
            payload = modelfile.read(path).payload
            for line in range_warnings(model, form, payload, calibration):
                if line not in warned:  # two int8 files have the same ranges
                    report(line)
                warned.add(line)
        if timed and exported:
            exported = _timed(run, exported, report)
    if failed and exported:
        raise PartlyExportedError("; ".join(map(str, failed)), exported)
    if failed:
        raise failed[0]
    return exported


def _calibrate(run: Run, model: "keras.Model", report: Report) -> float:
    """Divide the logits of a run's model, in place, so that it is as sure as it is right."""
    number = divisor(run)
    if number == 1:
        return number
    if not divide_logits(model, number):
        report(
            "confidence is that of the network, which seems too sure or too unsure: only logits "
            "that a dense layer gives to a softmax at the end can be divided"
        )
        return 1.0
    report(divided(number))
    return number


def _timed(run: Run, exported: list[Exported], report: Report) -> list[Exported]:
    """Add to each file how fast it is on this machine, and keep that with what was found of it."""
    original = run.original("quantize")
    if original is None:
        report(f"no times: {run.info['parent']}, which {run.name} was made of, isn't beside it")
        return exported
    model, timed = original.load_model(), {}
    for kind, name in _YARDSTICKS.items():
        paths = [item.path for item in exported if item.path.suffix == f".{kind}"]
        if paths:
            plain = open_bare(FORMATS[name].convert(model, _NO_IMAGES), kind)
            opened = [plain, *(open_model(modelfile.read(path)) for path in paths)]
            timed |= zip(paths, race([call_of(each) for each in opened])[1:], strict=True)
    exported = [dataclasses.replace(item, timed=timed[item.path]) for item in exported]
    for item in exported:
        _record(item, _record_of(run, item.path.parent))
    return exported


def _record_of(run: Run, folder: Path) -> Path:
    usual = folder.resolve() == run.exports.resolve()
    return (run.findings if usual else folder) / _RECORD


def _formats(
    run: Run, model: "keras.Model", dataset: "Dataset", names: list[str], int8: Int8
) -> dict[str, Format]:
    """Return the formats of these names; raise EdgecifarError if `model` can't become one."""
    int8.require_fit(run, model, dataset, names)
    known = int8.formats(run)
    for form in (known[name] for name in names):
        if not form.takes_fine_tuned and is_quantization_aware(model):
            raise EdgecifarError(
                f"{run.name} was fine-tuned for int8: export {form.name} from "
                f"{run.info['parent']}, the run it came from"
            )
    return {name: known[name] for name in names}


def _refuse_files(
    run: Run, folder: Path, forms: Collection[Format], *, force: bool, searched: bool = False
) -> None:
    """Raise EdgecifarError for a file that is there already, or may come to be `searched` for."""
    for form in forms:
        path = folder / form.file_name(run.name)
        if not searched or form.name != INT8:
            refuse_existing(path, force=force)
            continue
        # Which layers are in float isn't known yet. If none, the search ends as it begins.
        for other in sorted(folder.glob(f"{glob.escape(path.stem)}-float-*{path.suffix}")):
            refuse_existing(other, force=force)


def _require_own(record: Path) -> None:
    """Raise EdgecifarError if what stands where a record goes is none of ours."""
    found = read_json(record) if record.exists() else {"files": {}}
    if not (isinstance(found, dict) and isinstance(found.get("files"), dict)):
        raise EdgecifarError(f"{record} is no record of exports: give another --out, or rename it")


def _record(item: Exported, path: Path) -> None:
    """Add what was found of a file to that of earlier ones; one of the same name is replaced."""
    files = read_json(path)["files"] if path.exists() else {}
    files[item.path.name] = item.as_json()
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
        "seed": info["seed"],
        "parameters": info["parameters"],
        "macs": info["macs"],
        "accuracy": {
            which: figures | {"split": "validation"}
            for which, figures in _accuracies(run, parity).items()
        },
        "parity": {
            key: value
            for key, value in dataclasses.asdict(parity).items()
            if key not in ("keras", "file", "original", "original_change")
        },
        "versions": info["versions"],
        # How a model from elsewhere was trained isn't known: its run has what later steps inherit.
        **({"recipe": info["recipe"]} if info["stage"] != ADOPTED else {}),
        **({"float_layers": list(form.float_layers)} if form.float_layers else {}),
    }


def _accuracies(run: Run, parity: Parity) -> dict[str, dict[str, float]]:
    """Return top1 of the float model, of what fine-tuning simulated if there was one, of a file.

    All are of the images of `parity`, others' if their runs have kept their answers to them. If
    the float model was pruned, what it was made of comes as `original`. A run that was moved away
    from others says nothing of them.
    """
    fine_tuned_from, original = run.original("quantize"), run.original()
    known = {}
    if original not in (None, run, fine_tuned_from):
        known["original"] = _validation(original, parity.n)
    if fine_tuned_from == run:
        return known | {"float": parity.keras, "this": parity.file}
    if fine_tuned_from:
        known["float"] = _validation(fine_tuned_from, parity.n)
    return known | {"simulated": parity.keras, "this": parity.file}


def _validation(run: Run, count: int) -> dict[str, float]:
    """Return a run's accuracy on the first `count` validation images, or on all of them."""
    if stored := run.predictions("validation"):
        probabilities, labels = stored
        return accuracy((probabilities.argmax(axis=1) == labels)[:count])
    return {key: run.metrics["validation"][key] for key in ("top1", "low", "high", "n")}


@dataclass(frozen=True)
class _Reference:
    """What Keras says of the validation images that every file is compared on."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    probabilities: np.ndarray
    weights: int  # bytes of the Keras model's parameters in float32
    original: tuple[str, np.ndarray] | None  # of a fine-tuned run: the float one, where it is right

    def compare(self, classifier: Classifier, count: int | None) -> Parity:
        """Compare what `classifier` says of the first `count` images, by default of all."""
        found = classifier.predict(self.images[:count]).probabilities
        original = self.original and (self.original[0], self.original[1][:count])
        said, labels = self.probabilities[:count], self.labels[:count]
        return compare(said, found, labels, self.classes, original)


def _reference(run: Run, model: "keras.Model", dataset: "Dataset") -> _Reference:
    from edgecifar.train.data import Split

    validation, weights = dataset.validation, 4 * run.info["parameters"]
    count = max(_LEAST_IMAGES, _PARITY_MACS // run.info["macs"])
    sample = Split(validation.images[:count], validation.labels[:count])
    said = predict(model, sample)
    original = _original_answers(run, sample.labels)
    return _Reference(sample.images, sample.labels, dataset.classes, said, weights, original)


def _original_answers(run: Run, labels: np.ndarray) -> tuple[str, np.ndarray] | None:
    """Return the name of the float run that `run` was fine-tuned from, and where that is right.

    None if there is no such run, or if it hasn't kept what it said of these images.
    """
    original = run.original("quantize")
    if original in (None, run) or not (stored := original.predictions("validation")):
        return None
    probabilities, known = (array[: len(labels)] for array in stored)
    if not np.array_equal(known, labels):
        return None
    return original.name, probabilities.argmax(axis=1) == labels


@dataclass(frozen=True)
class _Job:
    """What all files of an export have in common."""

    run: Run
    model: "keras.Model"
    divisor: float  # of the logits of the run's own model
    classes: tuple[str, ...]
    calibration: np.ndarray
    reference: _Reference

    def write(self, form: Format, path: Path) -> Exported:
        """Write the file at `path`, which stays as it was if the new one fails its checks."""
        done: list[Exported] = []

        def write(partial: Path) -> None:
            partial.write_bytes(form.convert(self.model, self.calibration))
            require_zeros(partial.read_bytes(), zeros_of(self.model).values(), name=path.name)
            found, proof = _check(partial, path, form, self.model, self.reference)
            description = describe(self.run, form, found.parity, path.stem)
            description |= {"divisor": self.divisor, "golden": proof}
            modelfile.append(partial, description, self.classes)
            done.append(found)

        write_whole(path, write)
        return done[0]


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
    # Written so that what isn't a number is wrong too; two probabilities differ by 1 at most.
    wrong = not parity.largest_difference <= (_FLOAT_TOLERANCE if form.exact else 1)
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
