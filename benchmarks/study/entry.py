"""What a study keeps of one recipe with one seed, read from the folder of its results."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks.recipe import teaching_of
from edgecifar.benchmarks.statistics import Calibration, calibration, confident_mistakes
from edgecifar.runtime import results
from edgecifar.train.files import read_json
from edgecifar.train.run import Run, open_run

if TYPE_CHECKING:
    from edgecifar.benchmarks.study.plan import Task

_DIGITS = 6  # significant, of what is only drawn
_TOLD = (
    "name", "stage", "architecture", "image_size", "parameters", "macs", "epochs", "best_epoch",
    "train_seconds", "images_per_second", "trained_on", "recipe", "created", "versions",
    "transfer", "head", "dropped",
)  # fmt: skip
_OF_ORIGINAL = {"float32": "float", "int8": "int8_post"}  # roles by format
_OF_FINE_TUNED = {"int8": "int8"}
_OF_ACCURACY = ("top1", "low", "high", "n", "ece", "correct")
_OF_FILE = ("name", "file", "sha256", "file_bytes", "payload_bytes", "backend")


def read_entry(task: "Task") -> dict[str, Any]:
    """Return the figures of a finished task; EdgecifarError if a file of it is damaged."""
    trained = open_run(task.folder / task.recipe.architecture)
    bench = results.read(task.bench)
    return {
        "seed": task.recipe.seed,
        "recipe": task.recipe.as_json() | teaching_of(bench["recipe"]),
        "stages": _stages(task, trained, bench["runs"]),
        "history": _history(trained),
        "metrics": trained.metrics,
        **_of_predictions(trained),
        "files": _files(task, bench),
    }


def _stages(task: "Task", trained: Run, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return what is told of the training and of each fine-tuning after it."""
    # Those that the recipe made: others may lie there.
    others = [Run(task.folder / name) for name in names]
    stages = []
    for run in [trained, *(run for run in others if run.path != trained.path and run.complete)]:
        info = {key: run.info[key] for key in _TOLD if key in run.info}
        tops = {split: figures["top1"] for split, figures in run.metrics.items()}
        stages.append(info | {"top1": tops})
    return stages


def _history(run: Run) -> dict[str, list[float | None]]:
    return {key: _plain(values) for key, values in run.history().items()}


def _of_predictions(run: Run) -> dict[str, Any]:
    told = run.predictions("test")
    if told is None:
        return {"reliability": None, "mistakes": []}
    mistakes = confident_mistakes(*told).items()
    return {
        "reliability": _reliability(calibration(*told)),
        "mistakes": [[*pair, list(places)] for pair, places in mistakes],
    }


def _reliability(found: Calibration) -> dict[str, Any]:
    return {
        "edges": _plain(found.edges),
        "confidence": _plain(found.confidence),
        "accuracy": _plain(found.accuracy),
        "count": found.count.tolist(),
        "ece": found.ece,
    }


def _files(task: "Task", bench: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the measured files, each with its role and its agreement with the first, in percent.

    They agree on an image if both name the same class, right or wrong.
    """
    count = len(bench["data"]["classes"])
    answers = [
        results.unpack_classes(row["accuracy"]["predicted"], count) for row in bench["models"]
    ]
    exported = _exported(task)
    kept = []
    for row, answered in zip(bench["models"], answers, strict=True):
        name = Path(row["file"]).name
        kept.append(
            {key: row[key] for key in _OF_FILE}
            | {"role": None, "parity": None}
            | exported.get(name, {})
            | {
                "file": name,
                "accuracy": {key: row["accuracy"].get(key) for key in _OF_ACCURACY},
                "agreement": 100 * float(np.mean(answered == answers[0])),
            }
        )
    return kept


def _exported(task: "Task") -> dict[str, dict[str, Any]]:
    """Return role and parity with Keras of each exported TFLite file, by its name.

    Files of the variants have no role, since they have no row in a study's tables.
    """
    original, found = task.recipe.architecture, {}
    roles = {original: _OF_ORIGINAL, task.recipe.quantize.run_name(original): _OF_FINE_TUNED}
    for record in task.folder.glob("*/exports.json"):
        of_run = roles.get(record.parent.name, {})
        for name, entry in read_json(record)["files"].items():
            role = of_run.get(entry["format"]) if name.endswith(".tflite") else None
            found[name] = {"role": role, "parity": entry["parity"]}
    return found


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers as JSON has them, with as many digits as a drawing needs."""
    return [None if math.isnan(v) else float(f"{v:.{_DIGITS}g}") for v in values.tolist()]
