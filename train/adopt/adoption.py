"""Adopting a model: rewritten for our pixels, measured, and kept in a run folder of its own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import named_after
from edgecifar.train.adopt import pixels as scales
from edgecifar.train.adopt.copying import SHIFT
from edgecifar.train.adopt.files import describe, digest, is_model, read_model
from edgecifar.train.adopt.leading import Leading, leading
from edgecifar.train.adopt.rewrite import (
    FRAME_LEVELS,
    flatten,
    for_our_pixels,
    with_probabilities,
)
from edgecifar.train.parsing import from_mapping
from edgecifar.train.progress import Report, ignore
from edgecifar.train.run import Run, is_finished, is_unbegun, open_run, start_run
from edgecifar.train.settings import Augmentation, Training, for_few_images, for_large_images
from edgecifar.train.stem import Preprocessing

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset, Split

STAGE = "adopted"
_COMPARED = 1000  # validation images on which the model is compared before and after
# Percent of them for which both must give the same answer. Where nothing was approximated only
# rounding differs, in a model that computes in 16 bits by more than in others.
_AGREEMENT = 95.0
_NEARLY = 99.5  # likewise where zero padding is only nearly what it was, which is quicker
_BATCH = 100


@dataclass(frozen=True)
class Adopted:
    """A model rewritten to our contract, and in plain words what was done to it."""

    model: "keras.Model"
    pixels: str
    takes: Preprocessing  # what the model was given before
    changes: tuple[str, ...]
    comparison: dict[str, float]


def open_or_adopt(
    path: Path,
    load: Callable[[], "Dataset"],
    *,
    pixels: str | None = None,
    beside: Path | None = None,
    report: Report = ignore,
) -> tuple[Run, "Dataset"]:
    """Return the run at `path`, or the one that the model file at `path` becomes, and its data.

    `load` gives the data. A model becomes the run of its own name beside the folder `beside`, by
    default in `runs`; `pixels` says what it takes (see `pixels.parse`). It is opened, not adopted
    again, if the file is the same.
    """
    if not is_model(path):
        run = open_run(path)
        if pixels:
            raise EdgecifarError(f"--pixels is for model files: {path} is a run, leave it out")
        return run, load()
    out = (beside.parent if beside else Path("runs")) / named_after(path)
    if out.resolve() == path.resolve():  # the folder of a SavedModel
        out = out.with_name(f"{out.name}-adopted")
    if pixels:
        scales.parse(pixels)  # or it raises, before any work
    if run := _adopted_before(path, out, pixels):
        report(f"{path} was adopted before: going on with {out}")
        dataset = load()
        _require_same_data(run, dataset, path)
        return run, dataset
    model = read_model(path)
    dataset = load()
    return adopt(model, path, dataset, out, pixels=pixels, report=report), dataset


def adopt(
    model: "keras.Model",
    path: Path,
    dataset: "Dataset",
    out: Path,
    *,
    pixels: str | None = None,
    report: Report = ignore,
) -> Run:
    """Make the run `out` of the `model` that was read from `path`, in place of an unfinished one.

    `pixels` says what it takes (see `pixels.parse`). Raises EdgecifarError, before any work, for a
    model that isn't a classifier of these data's images and classes.
    """
    from edgecifar.train.session import record
    from edgecifar.train.summary import told_of_chance

    adopted = rewrite(model, dataset, pixels=pixels)
    for change in (f"pixels: {adopted.pixels}", *adopted.changes, compared(adopted.comparison)):
        report(f"{path.name}: {change}")
    run = start_run(
        out,
        dataset,
        fine_tuning_recipe(dataset),
        stage=STAGE,
        architecture=f"{STAGE}:{named_after(path)}",  # no network of ours has a name like that
        seed=0,
        force=not is_finished(out),
        source={"path": str(path), "sha256": digest(path)},
    )
    details = {
        "pixels": adopted.pixels,
        "takes": asdict(adopted.takes),
        "changes": list(adopted.changes),
        **adopted.comparison,
    }
    record(run, adopted.model, dataset, adopted=details)
    report(f"{path.name}: adopted as {out}")
    mend = "check --pixels, and that its classes are in the order that `edgecifar data info` shows"
    if told := told_of_chance(run.metrics["validation"], mend):
        report(f"{path.name}: {told}")
    return run


def rewrite(
    model: "keras.Model",
    dataset: "Dataset",
    *,
    pixels: str | None = None,
) -> Adopted:
    """Return `model` flat, with our pixels in and probabilities out, compared with what it was.

    Raises EdgecifarError if it doesn't answer as it did.
    """
    from scipy.special import softmax

    flat = flatten(model, dataset.image_size)
    if flat.output_shape[1:] != (len(dataset.classes),):
        raise EdgecifarError(_other_classes(flat.output_shape[1:], dataset))
    sample = _first(dataset.validation, _COMPARED)
    ahead = leading(flat)
    takes, told = _pixels_of(model, ahead, sample, pixels)
    before = _predict(model, sample.images, takes)
    # What ends a model is seen in float32: sixteen bits don't sum up to 1.
    ending, appended = with_probabilities(flat, _predict(flat, sample.images[:_BATCH], takes))
    if appended:
        before = softmax(before, axis=1)
    for levels, least in ((FRAME_LEVELS, _NEARLY), (0, _AGREEMENT)):
        ours = for_our_pixels(ending, ahead, ahead.after(takes), frame_levels=levels)
        after = _predict(ours, sample.images, scales.NAMED["edgecifar"])
        comparison = _comparison(before, after, sample.labels)
        if comparison["agreement"] >= least:
            changes = _changes(model, flat, ahead.names, ours, appended=appended)
            return Adopted(ours, told, takes, changes, comparison)
    raise EdgecifarError(
        f"rewritten for our pixels the model doesn't answer as it did ({compared(comparison)}; "
        f"{_AGREEMENT:g} % must agree): build it from layers that prepare each pixel alone, or "
        "none, ahead of its first convolution"
    )


def _pixels_of(
    model: "keras.Model",
    ahead: Leading,
    sample: "Split",
    pixels: str | None,
) -> tuple[Preprocessing, str]:
    """Return what `model` is to be given, and how that is known."""
    raw = scales.NAMED["0..255"]
    rescaled = bool(ahead.names) and scales.takes_raw(ahead.after(raw))
    if pixels:
        wanted = scales.parse(pixels)
        though = f", though its own {_listed(ahead.names)} takes 0..255" if rescaled else ""
        return wanted, f"{pixels}, as given{though if wanted != raw else ''}"
    if rescaled:
        return raw, f"0..255, which {_listed(ahead.names)} rescales"
    name, seen = scales.measure(
        lambda inputs: _predict(model, inputs), sample.images, sample.labels
    )
    return scales.NAMED[name], f"{name}, found by trial ({seen})"


def fine_tuning_recipe(dataset: "Dataset") -> Training:
    """Return the settings that later steps inherit, for a net of which little is known.

    Adam, since nets without batch normalisation don't bear our SGD; no decay, and of all
    augmentation small crops: what is mirrored may be another class. Few or large images get small
    batches.
    """
    settings = Training(
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        augment=Augmentation(flip="none", crop=min(dataset.image_size) // 16),
    )
    return for_few_images(for_large_images(settings, dataset.image_size), len(dataset.train))


def compared(comparison: dict[str, float]) -> str:
    """Return in a line what the rewriting lost."""
    return (
        f"top-1 {comparison['top1_before']:.2f} % as it was, {comparison['top1']:.2f} % adopted, "
        f"agreement {comparison['agreement']:.2f} %, largest difference of a probability "
        f"{comparison['largest_difference']:.2g} ({comparison['n']:,} validation images)"
    )


def _adopted_before(path: Path, out: Path, pixels: str | None) -> Run | None:
    """Return the finished run that was made of the same file, None if there is none yet."""
    if is_unbegun(out):
        return None
    if not (out / "run.json").is_file():
        raise EdgecifarError(f"{out} is in the way, where {path} would be adopted: rename one")
    run = Run(out)
    info = run.info
    if info.get("stage") != STAGE:
        raise EdgecifarError(f"the run {out} has the name that {path} would get: rename the file")
    if info["source"]["sha256"] != digest(path):
        describe(path)  # raises if it is no model at all
        raise EdgecifarError(
            f"{out} was adopted from another file than {path} is now: remove that folder, or "
            "rename the file"
        )
    if not run.complete:
        return None
    if pixels and not _same(scales.parse(pixels), info["adopted"]["takes"]):
        raise EdgecifarError(
            f"{out} was adopted with pixels {info['adopted']['pixels']}: remove that folder to "
            f"adopt {path} with {pixels}"
        )
    return run


def _require_same_data(run: Run, dataset: "Dataset", path: Path) -> None:
    known = run.info["dataset"]
    if known["fingerprint"] != dataset.fingerprint:
        raise EdgecifarError(
            f"{run.path} was adopted with other data ({known['name']}, "
            f"{known['fingerprint'][:12]}) than these ({dataset.name}, "
            f"{dataset.fingerprint[:12]}): give the same, or remove that folder to adopt {path} "
            "with these"
        )


def _same(wanted: Preprocessing, noted: dict[str, Any]) -> bool:
    """Tell whether `noted`, as run.json has it, is the scale `wanted`."""
    takes = from_mapping(Preprocessing, noted)
    same = np.allclose([wanted.mean, wanted.scale], [takes.mean, takes.scale])
    return bool(same) and wanted.bgr == takes.bgr


def _other_classes(shape: tuple, dataset: "Dataset") -> str:
    if len(shape) != 1:
        return f"the model gives {shape}: it must end in one value for each class"
    if shape == (1,) and len(dataset.classes) == 2:
        return (
            "the model tells two classes apart by one value: end it in Dense(2, "
            "activation='softmax') instead, with the kernel [0, w] and the bias [0, b] of its last "
            "layer, and it answers the same"
        )
    return (
        f"the model tells {shape[0]} classes apart, {dataset.name} has {len(dataset.classes)}: "
        "give the data that it was trained for with --data"
    )


def _first(split: "Split", count: int) -> "Split":
    from edgecifar.train.data.dataset import Split

    return Split(split.images[:count], split.labels[:count])


def _predict(
    model: "keras.Model", images: np.ndarray, pixels: Preprocessing | None = None
) -> np.ndarray:
    """Return the model's outputs, float32 [n, classes], for inputs, or for pixels to prepare."""
    starts = range(0, len(images), _BATCH)
    batches = (images[start : start + _BATCH] for start in starts)
    outputs = [model.predict_on_batch(pixels(batch) if pixels else batch) for batch in batches]
    return np.concatenate(outputs).astype(np.float32)


def _comparison(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    return {
        "top1_before": 100 * float((first == labels).mean()),
        "top1": 100 * float((second == labels).mean()),
        "agreement": 100 * float((first == second).mean()),
        "largest_difference": float(np.abs(before - after).max()),
        "n": len(labels),
    }


def _changes(
    model: "keras.Model",
    flat: "keras.Model",
    ahead: tuple[str, ...],
    ours: "keras.Model",
    *,
    appended: bool,
) -> tuple[str, ...]:
    """Say what was done to a model, where anything was."""
    import tf_keras as keras

    inside = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    shifted = any(layer.name == SHIFT for layer in ours.layers)
    notes = (
        (inside, f"the layers of {_listed(inside)} now lie in the model itself"),
        (ahead, f"{_listed(ahead)} went into the first layer"),
        (shifted, f"the layer {SHIFT} was put first, so that zero padding means what it meant"),
        (appended, "it ended in logits: a softmax was added"),
    )
    return tuple(note for done, note in notes if done)


def _listed(names: "tuple[str, ...] | list[str]") -> str:
    return " and ".join(names)
