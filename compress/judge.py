"""Measure what a compression step changed: accuracy, size and latency on this machine."""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.verdict import Side, Verdict, paired_change
from edgecifar.train.files import read_json, write_json
from edgecifar.train.run import Run

if TYPE_CHECKING:
    from edgecifar.compress.formats import Format
    from edgecifar.train.data import Dataset

_CALIBRATION_IMAGES = 100  # for sizes and latency alone, on which ranges have no influence
_STORED = "verdict.json"


def verdict_of(run: Run) -> str | None:
    """Return the line that `judge` stored in a run, None if there is none."""
    path = run.path / _STORED
    return read_json(path)["verdict"] if path.exists() else None


def judge(parent: Run, run: Run, dataset: "Dataset") -> Verdict:
    """Measure `run` against `parent`, both finished, and store the outcome in `run`."""
    judged = _judge_int8 if run.info["stage"] == "quantize" else _judge_smaller
    verdict = judged(parent, run, dataset)
    write_json(run.path / _STORED, verdict.as_json())
    return verdict


def _judge_smaller(parent: Run, run: Run, dataset: "Dataset") -> Verdict:
    """Compare two float models, and their int8 files without fine-tuning."""
    from edgecifar.compress.calibration import calibration_images
    from edgecifar.compress.formats import FORMATS
    from edgecifar.compress.latency import race

    runs, form = (parent, run), FORMATS["int8"]
    calibration = calibration_images(dataset, _CALIBRATION_IMAGES)
    payloads = [form.convert(each.load_model(), calibration) for each in runs]
    timed = race(payloads)
    right = [_answers(each, dataset) == dataset.validation.labels for each in runs]
    before, after = (
        _side(each, form, payload, time.latency.median, correct)
        for each, payload, time, correct in zip(runs, payloads, timed, right, strict=True)
    )
    change = paired_change(*right)
    return Verdict(run.info["stage"], before, after, timed[1].ratio, change, len(right[0]))


def _judge_int8(parent: Run, run: Run, dataset: "Dataset") -> Verdict:
    """Compare a float model with the int8 file of `run`, and with its own int8 file beside it."""
    from edgecifar.compress.calibration import calibration_images
    from edgecifar.compress.formats import FORMATS
    from edgecifar.compress.int8 import Int8
    from edgecifar.compress.latency import race

    runs = (parent, parent, run)
    forms = (FORMATS["float32"], FORMATS["int8"], Int8().format(run))
    calibration, models = calibration_images(dataset), [each.load_model() for each in (parent, run)]
    payloads = [
        form.convert(model, calibration)
        for form, model in zip(forms, (models[0], *models), strict=True)
    ]
    timed, images, labels = race(payloads), dataset.validation.images, dataset.validation.labels
    of_files = (_file_answers(payload, images) for payload in payloads[1:])
    said = [_answers(parent, dataset), *of_files]
    right = [answers == labels for answers in said]
    before, beside, after = (
        _side(each, form, payload, time.latency.median, correct)
        for each, form, payload, time, correct in zip(
            runs, forms, payloads, timed, right, strict=True
        )
    )
    same = [100 * float((answers == said[0]).mean()) for answers in said]
    return Verdict(
        "quantize",
        before,
        replace(after, agreement=same[2]),
        timed[2].ratio,
        paired_change(right[0], right[2]),
        len(labels),
        replace(beside, agreement=same[1]),
        paired_change(right[1], right[2]),
    )


def _answers(run: Run, dataset: "Dataset") -> np.ndarray:
    """Return the class that a run's Keras model gives each validation image, int64 [n]."""
    from edgecifar.train.evaluate import evaluate_run

    path = run.path / "predictions-validation.npz"
    if not path.exists():  # models that ship come without
        evaluate_run(run, dataset, "validation")
    return np.load(path)["probabilities"].argmax(axis=1)


def _file_answers(payload: bytes, images: np.ndarray) -> np.ndarray:
    """Return the class that the bytes of an int8 file give each image, int64 [n]."""
    from edgecifar.runtime.classifier import Classifier
    from edgecifar.runtime.encoding import PIXEL_MINUS_128
    from edgecifar.runtime.modelfile import ModelFile

    described = {"input": {"encoding": PIXEL_MINUS_128}}
    model = ModelFile(Path("bytes.tflite"), "tflite", payload, described, None, len(payload))
    return Classifier(model).predict(images).indices


def _side(
    run: Run, form: "Format", payload: bytes, microseconds: float, correct: np.ndarray
) -> Side:
    from edgecifar.compress.buffers import zero_share

    info = run.info
    return Side(
        Path(form.file_name(run.name)).stem,
        info["macs"],
        info["parameters"],
        100 * float(correct.mean()),
        len(payload),
        len(zlib.compress(payload, 9)),
        zero_share(payload),
        microseconds,
    )
