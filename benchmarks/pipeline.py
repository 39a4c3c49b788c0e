"""Run a recipe from end to end: train, compress, export, evaluate, benchmark, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.benchmarks.chain import Chain, announce
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_json
from edgecifar.train.run import Run

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset


@dataclass(frozen=True)
class Outcome:
    """Where a recipe's results lie."""

    runs: tuple[Path, ...]
    files: tuple[Path, ...]  # exported models, the float original first
    bench: Path
    report: Path


def run_recipe(recipe: Recipe, dataset: "Dataset", out: Path, *, force: bool = False) -> Outcome:
    """Carry out `recipe` in the folder `out`, skipping what is finished there already.

    The runs are its subfolders; bench.json and report.html are written anew. What stands there
    from another recipe is an error, or is made anew with `force`: see `Chain`. The test images are
    read once a model, after all choices were made on validation images.
    """
    from edgecifar.benchmarks.report.build import build_report
    from edgecifar.train.evaluate import evaluate_run

    runs, files = {}, []
    for made in Chain(recipe, dataset, out, force).runs():
        runs[made.run.path] = made.run
        files += _export(made.run, dataset, made.formats)
    for run in runs.values():
        if "test" not in run.metrics:
            announce(f"evaluating {run.name} on the test images")
            evaluate_run(run, dataset, "test")
    measured = _measure(files, dataset, recipe.threads, out / "bench.json")
    report = build_report(
        tuple(runs),
        [measured],
        out / "report.html",
        title=recipe.title,
        images=dataset.test.images,
        force=True,
    )
    return Outcome(tuple(runs), tuple(files), measured, report)


def _measure(files: list[Path], dataset: "Dataset", threads: int, out: Path) -> Path:
    from edgecifar.runtime.benchmark import bench
    from edgecifar.runtime.labelled import Labelled

    announce("measuring accuracy and latency")
    test = Labelled(
        images=dataset.test.images,
        labels=dataset.test.labels,
        classes=dataset.classes,
        fingerprint=dataset.fingerprint,
        name=dataset.name,
    )
    result = bench(files, data=test, threads=threads)
    write_json(out, result)
    for row in result["models"]:
        if "error" in row:
            raise EdgecifarError(f"{row['name']} can't be measured: {row['error']}")
    return out


def _export(run: Run, dataset: "Dataset", formats: tuple[str, ...]) -> list[Path]:
    from edgecifar.compress.export import export

    if not formats:
        return []
    announce(f"exporting {run.name} as {', '.join(formats)}")
    return [item.path for item in export(run, dataset, formats, force=True)]
