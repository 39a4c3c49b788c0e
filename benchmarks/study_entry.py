"""What a study keeps of one recipe with one seed, read from the folder of its results."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks.recipe import Recipe
from edgecifar.benchmarks.statistics import calibration
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.run import Run, open_run

if TYPE_CHECKING:
    from edgecifar.benchmarks.study import Task
    from edgecifar.train.data import Dataset

_DIGITS = 6  # significant, of what is only drawn
_TOLD = (
    "name", "stage", "architecture", "parameters", "macs", "epochs", "best_epoch",
    "train_seconds", "images_per_second", "recipe", "created", "versions",
)  # fmt: skip
_ROLES = {"float32": "float", "qat-int8": "int8", "int8": "int8_post"}  # by a file's name
_OF_ACCURACY = ("top1", "low", "high", "n", "correct")
_OF_FILE = ("name", "file", "sha256", "file_bytes", "payload_bytes", "backend")


def read_entry(task: "Task", dataset: "Dataset") -> dict[str, Any]:
    """Return the figures of a finished task.

    Raises EdgecifarError if it was trained with another recipe or on other images than now asked
    for: its figures would stand beside a wrong description.
    """
    trained = open_run(task.folder / task.recipe.architecture)
    trained.require_data(dataset)
    if not is_of(task.recipe, trained.info["recipe"], trained.info["seed"]):
        raise EdgecifarError(
            f"{task.folder} was trained with another recipe or seed than {task.name} states: "
            "move that folder away, or carry it out again with --force"
        )
    bench = results.read(task.folder / "bench.json")
    return {
        "seed": task.recipe.seed,
        "recipe": json.loads(json.dumps(dataclasses.asdict(task.recipe))),
        "stages": _stages(task, trained),
        "history": _history(trained),
        "metrics": trained.metrics,
        "reliability": _reliability(trained),
        "files": _files(task.recipe.architecture, bench),
        "cpu": bench["environment"].get("cpu"),
    }


def is_of(recipe: Recipe, settings: Mapping[str, Any], seed: int) -> bool:
    """Tell whether training with `settings`, as JSON has them, and `seed` is that of `recipe`."""
    asked = json.loads(json.dumps(dataclasses.asdict(recipe.train)))
    return settings == asked and seed == recipe.seed


def _stages(task: "Task", trained: Run) -> list[dict[str, Any]]:
    """Return what is told of the training and of each fine-tuning after it."""
    others = [Run(path.parent) for path in sorted(task.folder.glob("*/run.json"))]
    stages = []
    for run in [trained, *(run for run in others if run.path != trained.path and run.complete)]:
        info = {key: run.info[key] for key in _TOLD if key in run.info}
        tops = {split: figures["top1"] for split, figures in run.metrics.items()}
        stages.append(info | {"top1": tops})
    return stages


def _history(run: Run) -> dict[str, list[float | None]]:
    from edgecifar.benchmarks.report.load import load_history

    columns = load_history(run.path / "history.csv")
    return {key: _plain(values) for key, values in columns.items()}


def _reliability(run: Run) -> dict[str, Any] | None:
    path = run.path / "predictions-test.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        found = calibration(arrays["probabilities"], arrays["labels"])
    return {
        "edges": _plain(found.edges),
        "confidence": _plain(found.confidence),
        "accuracy": _plain(found.accuracy),
        "count": found.count.tolist(),
        "ece": found.ece,
    }


def _files(architecture: str, bench: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the measured files, each with its role and its agreement with the first, in percent.

    They agree on an image if both name the same class, right or wrong.
    """
    count = len(bench["data"]["classes"])
    answers = [
        results.unpack_classes(row["accuracy"]["predicted"], count) for row in bench["models"]
    ]
    roles = {f"{architecture}-{end}.tflite": role for end, role in _ROLES.items()}
    kept = []
    for row, answered in zip(bench["models"], answers, strict=True):
        name = Path(row["file"]).name
        kept.append(
            {key: row[key] for key in _OF_FILE}
            | {
                "file": name,
                "role": roles.get(name),
                "accuracy": {key: row["accuracy"][key] for key in _OF_ACCURACY},
                "agreement": 100 * float(np.mean(answered == answers[0])),
                "parity": (row.get("metadata") or {}).get("parity"),
            }
        )
    return kept


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers as JSON has them, with as many digits as a drawing needs."""
    return [None if math.isnan(v) else float(f"{v:.{_DIGITS}g}") for v in values.tolist()]
