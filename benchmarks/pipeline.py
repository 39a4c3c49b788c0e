"""Run a recipe from end to end: train, quantize, evaluate, export, benchmark, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_json
from edgecifar.train.run import Run, is_finished, open_run

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset


@dataclass(frozen=True)
class Outcome:
    """Where a recipe's results lie."""

    runs: tuple[Path, ...]
    files: tuple[Path, ...]  # exported models, the float original first
    bench: Path
    report: Path


def run_recipe(recipe: Recipe, dataset: "Dataset", out: Path) -> Outcome:
    """Carry out `recipe` in the folder `out`, skipping what is finished there already.

    The runs are its subfolders; bench.json and report.html are written anew. The test images are
    read once a model, after all choices were made on validation images.
    """
    from edgecifar.benchmarks.report.build import build_report
    from edgecifar.runtime.benchmark import bench
    from edgecifar.runtime.labelled import Labelled
    from edgecifar.train.evaluate import evaluate_run

    trained = _train(recipe, dataset, out / recipe.architecture)
    quantized = _quantize(recipe, dataset, trained, out / f"{recipe.architecture}-qat")
    runs = (trained, quantized)
    for run in runs:
        if "test" not in run.metrics:
            _announce(f"evaluating {run.name} on the test images")
            evaluate_run(run, dataset, "test")
    files = (*_export(trained, dataset, recipe.export), *_export(quantized, dataset, ("int8",)))
    _announce("measuring accuracy and latency")
    test = Labelled(
        images=dataset.test.images,
        labels=dataset.test.labels,
        classes=dataset.classes,
        fingerprint=dataset.fingerprint,
        name=dataset.name,
    )
    result = bench(files, data=test, threads=recipe.threads)
    write_json(out / "bench.json", result)
    for row in result["models"]:
        if "error" in row:
            raise EdgecifarError(f"{row['name']} can't be measured: {row['error']}")
    paths = tuple(run.path for run in runs)
    report = build_report(
        paths,
        [out / "bench.json"],
        out / "report.html",
        title=recipe.title,
        images=dataset.test.images,
        force=True,
    )
    return Outcome(paths, files, out / "bench.json", report)


def _train(recipe: Recipe, dataset: "Dataset", out: Path) -> Run:
    from edgecifar.train.session import train

    if is_finished(out):
        return open_run(out)
    _announce(f"training {recipe.architecture}, {recipe.train.epochs} epochs")
    return train(recipe.architecture, dataset, recipe.train, out, seed=recipe.seed)


def _quantize(recipe: Recipe, dataset: "Dataset", parent: Run, out: Path) -> Run:
    from edgecifar.compress.quantize import quantize

    if is_finished(out):
        return open_run(out)
    _announce(f"fine-tuning with quantization in the loop, {recipe.quantize.epochs} epochs")
    return quantize(parent, dataset, recipe.quantize, out, seed=recipe.seed)


def _export(run: Run, dataset: "Dataset", formats: tuple[str, ...]) -> list[Path]:
    from edgecifar.compress.export import export

    _announce(f"exporting {run.name} as {', '.join(formats)}")
    return [item.path for item in export(run, dataset, formats, force=True)]


def _announce(text: str) -> None:
    click.echo(text, err=True)
