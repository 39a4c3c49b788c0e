"""Measure what a compression step changed: accuracy, size and latency on this machine."""

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.verdict import Side, Verdict
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import paired_change
from edgecifar.train.files import read_json, write_json
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.formats import Format
    from edgecifar.train.data import Dataset

_CALIBRATION_IMAGES = 100  # for sizes and latency alone, on which ranges have no influence
_STORED = "verdict.json"


def verdict_of(run: Run) -> str | None:
    """Return the line that `judge` stored in a run, None if there is none."""
    path = run.path / _STORED
    return read_json(path)["verdict"] if path.exists() else None


def judge(origins: Sequence[Run], run: Run, dataset: "Dataset") -> Verdict:
    """Measure `run` against its parent or its teachers, all finished; store the outcome in `run`.

    Several teachers count as one network: with the mean of their probabilities, and the sum of
    their sizes and times.
    """
    compare = _judge_int8 if run.info["stage"] == "quantize" else _judge_smaller
    verdict = compare(origins, run, dataset)
    write_json(run.path / _STORED, verdict.as_json())
    return verdict


def _since_original(
    origins: Sequence[Run], run: Run, dataset: "Dataset", right: np.ndarray
) -> dict[str, Any]:
    """Return the fields of a verdict that tell what all steps together have changed.

    `right`, bool [n], says which validation images come out right now. There are none for a first
    step, nor if a run on the way was moved or made anew.
    """
    original = run.original()
    known = {each.path.resolve() for each in (run, *origins)}
    if original is None or original.path.resolve() in known:
        return {}
    before = _answers((original,), dataset) == dataset.validation.labels
    return {"original": original.name, "original_change": paired_change(before, right)}


def _judge_smaller(origins: Sequence[Run], run: Run, dataset: "Dataset") -> Verdict:
    """Compare float models, those of `origins` together, and their int8 files as converted.

    Where a file wouldn't be int8 throughout, the float32 files are compared.
    """
    from edgecifar.compress.bare import open_bare
    from edgecifar.compress.calibration import calibration_images
    from edgecifar.compress.formats import FORMATS
    from edgecifar.compress.int8 import Int8
    from edgecifar.compress.latency import race

    sides, form = (tuple(origins), (run,)), FORMATS["int8"]
    calibration = calibration_images(dataset, _CALIBRATION_IMAGES)

    def files(name: str) -> list[tuple[bytes, ...]]:
        """Convert all, to int8 with the layers in float that each has."""
        found = [
            tuple(
                _converted(Int8().formats(each)[name], each.load_model(), calibration, each.name)
                for each in runs
            )
            for runs in sides
        ]
        for payload in itertools.chain(*found):
            open_bare(payload)  # or it raises
        return found

    why_float = None
    try:
        payloads = files("int8")
    except EdgecifarError as error:  # there is no integer kernel for an operation, or for its range
        form, why_float = FORMATS["float32"], str(error)
        payloads = files("float32")
    timed = race(payloads)
    right = [_answers(runs, dataset) == dataset.validation.labels for runs in sides]
    before, after = (
        _side(runs, form, files, time.latency.median, correct)
        for runs, files, time, correct in zip(sides, payloads, timed, right, strict=True)
    )
    change = paired_change(*right)
    whole = _since_original(origins, run, dataset, right[1])
    return Verdict(
        run.info["stage"],
        before,
        after,
        timed[1].ratio,
        change,
        len(right[0]),
        why_float=why_float,
        doubts=timed[1].doubts,
        **whole,
    )


def _judge_int8(origins: Sequence[Run], run: Run, dataset: "Dataset") -> Verdict:
    """Compare a float model with the int8 file of `run`, and with its own int8 file beside it."""
    from edgecifar.compress.bare import probabilities
    from edgecifar.compress.calibration import calibration_images
    from edgecifar.compress.formats import FORMATS
    from edgecifar.compress.int8 import Int8
    from edgecifar.compress.latency import race

    (parent,) = origins
    runs = (parent, parent, run)
    form = Int8().formats(run)["int8"]  # with the layers in float that `run` has
    forms = (FORMATS["float32"], form, form)
    calibration, models = calibration_images(dataset), [each.load_model() for each in (parent, run)]
    payloads = [
        _converted(form, model, calibration, each.name)
        for each, form, model in zip(runs, forms, (models[0], *models), strict=True)
    ]
    timed, images, labels = race(payloads), dataset.validation.images, dataset.validation.labels
    of_files = (probabilities(payload, images).argmax(axis=1) for payload in payloads[1:])
    said = [_answers((parent,), dataset), *of_files]
    right = [answers == labels for answers in said]
    before, beside, after = (
        _side((each,), form, (payload,), time.latency.median, correct)
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
        doubts=timed[2].doubts,
        **_since_original(origins, run, dataset, right[2]),
    )


def _converted(form: "Format", model: "keras.Model", calibration: np.ndarray, name: str) -> bytes:
    """Return a file's bytes. Raises EdgecifarError if it doesn't compute in what it promises."""
    payload = form.convert(model, calibration)
    form.inspect(payload, model, form.file_name(name))
    return payload


def _answers(runs: Sequence[Run], dataset: "Dataset") -> np.ndarray:
    """Return the class that Keras models together give each validation image, int64 [n]."""
    return np.mean([_probabilities(run, dataset) for run in runs], axis=0).argmax(axis=1)


def _probabilities(run: Run, dataset: "Dataset") -> np.ndarray:
    """Return what a run's Keras model says of the validation images, float32 [n, classes]."""
    from edgecifar.train.evaluate import predict

    if stored := run.predictions("validation"):
        return stored[0]
    run.require_data(dataset)  # models that ship come without
    return predict(run.load_model(), dataset.validation)


def _side(
    runs: Sequence[Run],
    form: "Format",
    payloads: Sequence[bytes],
    microseconds: float,
    correct: np.ndarray,
) -> Side:
    """Describe the models of `runs`, taken together, and a file of each."""
    from edgecifar.compress.buffers import zero_share

    infos = [run.info for run in runs]
    parameters = [info["parameters"] for info in infos]
    return Side(
        Path(form.file_name("+".join(run.name for run in runs))).stem,
        sum(info["macs"] for info in infos),
        sum(parameters),
        100 * float(correct.mean()),
        sum(len(payload) for payload in payloads),
        sum(len(zlib.compress(payload, 9)) for payload in payloads),
        float(np.average([zero_share(payload) for payload in payloads], weights=parameters)),
        microseconds,
    )
