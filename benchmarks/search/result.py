"""A search's result as a file: what was asked, all that was measured, what was reached."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgecifar.benchmarks.search.space import Limits
from edgecifar.benchmarks.search.trials import Trials
from edgecifar.runtime import environment, results
from edgecifar.runtime.statistics import wilson

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset
    from edgecifar.train.models.edgenet import Shape

KIND = "search"  # of results
FILE = "search.json"


def result_of(
    trials: Trials,
    dataset: "Dataset",
    limits: Limits,
    *,
    reference: str,
    also: Collection["Shape"] = (),
) -> dict[str, Any]:
    """Return a sealed result: every shape that was measured, with its cost and its accuracy.

    `also` are those that weren't drawn, which the result says of each.
    An accuracy is null unless the shape was trained. It has `top1` on the `validation` images,
    `low` and `high`, Wilson's 95 % interval, in percent; a cost's `low` and `high` are those of its
    `ratio` to the `reference`. The machine that trained is the `environment`, the one that measured
    stands among the `settings`. What is `unfinished` is being trained elsewhere.
    """
    size, classes, n = dataset.image_size, len(dataset.classes), len(dataset.validation)
    reached = {trial.shape: trial.top1 for trial in trials.results()}

    def accuracy(shape: "Shape") -> dict[str, float] | None:
        if shape not in reached:
            return None
        share = wilson(round(reached[shape] * n / 100), n)
        return {"top1": share.value, "low": share.low, "high": share.high}

    shapes = [
        {
            "shape": str(shape),
            "also": shape in also,
            "parameters": shape.parameters(classes),
            "macs": shape.macs(size, classes),
            "cost": cost.as_dict(),
            "accuracy": accuracy(shape),
        }
        for shape, cost in trials.costs.items()
    ]
    content = {
        "schema": results.SCHEMA,
        "kind": KIND,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": environment.describe(),
        "valid": not trials.doubts,
        "doubts": trials.doubts,
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "validation": n},
        "limits": asdict(limits),
        "reference": reference,
        "settings": trials.settings,
        "unfinished": trials.elsewhere(),
        "shapes": sorted(shapes, key=lambda told: told["shape"]),
    }
    return results.seal(content)
