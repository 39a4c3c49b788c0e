"""Run a recipe from end to end: train, quantize, evaluate, export, benchmark, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_json
from edgecifar.train.run import Run, is_finished, open_run

if TYPE_CHECKING:
    from edgecifar.compress.distil import Teacher
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
    runs, files = [trained], _export(trained, dataset, recipe.export)
    if recipe.fine_tune_int8:
        quantized = _quantize(recipe, dataset, trained, out / f"{recipe.architecture}-qat")
        runs.append(quantized)
        files += _export(quantized, dataset, ("int8",))
    for run in runs:
        if "test" not in run.metrics:
            _announce(f"evaluating {run.name} on the test images")
            evaluate_run(run, dataset, "test")
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
    return Outcome(paths, tuple(files), out / "bench.json", report)


def _train(recipe: Recipe, dataset: "Dataset", out: Path, pupils: tuple[str, ...] = ()) -> Run:
    """Train the float model; `pupils` are the recipes that wait for it as their teacher."""
    from edgecifar.compress.distil import distil
    from edgecifar.train import session, transfer

    if is_finished(out):
        return open_run(out)
    teacher = _teacher(recipe, dataset, out.parent.parent, pupils)
    _announce(f"training {recipe.architecture}, {recipe.train.epochs} epochs")
    what = (recipe.architecture, dataset, recipe.train)
    if teacher:
        return distil(teacher, *what, out, seed=recipe.seed)
    if recipe.transfer:
        return transfer.train(*what, recipe.transfer, out, seed=recipe.seed)
    return session.train(*what, out, seed=recipe.seed)


def _quantize(recipe: Recipe, dataset: "Dataset", parent: Run, out: Path) -> Run:
    from edgecifar.compress.quantize import quantize

    if is_finished(out):
        return open_run(out)
    teacher = _teacher(recipe, dataset, out.parent.parent, ())
    _announce(f"fine-tuning with quantization in the loop, {recipe.quantize.epochs} epochs")
    return quantize(parent, dataset, recipe.quantize, out, seed=recipe.seed, teacher=teacher)


def _teacher(
    recipe: Recipe, dataset: "Dataset", folder: Path, pupils: tuple[str, ...]
) -> "Teacher | None":
    """Train what is still missing of a recipe's teachers, each in its own part of `folder`."""
    from edgecifar.compress.distil import Teacher

    runs = []
    for name in recipe.teachers:
        if name in pupils:
            raise EdgecifarError(f"the recipe {name} is among its own teachers: take it out")
        chosen = recipes.read(name)
        chosen = chosen.shortened() if recipe.quick else chosen
        place = folder / recipes.folder_name(name, quick=recipe.quick)
        runs.append(_train(chosen, dataset, place / chosen.architecture, (*pupils, name)))
    return Teacher(tuple(runs), recipe.distil) if runs else None


def _export(run: Run, dataset: "Dataset", formats: tuple[str, ...]) -> list[Path]:
    from edgecifar.compress.export import export

    _announce(f"exporting {run.name} as {', '.join(formats)}")
    return [item.path for item in export(run, dataset, formats, force=True)]


def _announce(text: str) -> None:
    click.echo(text, err=True)
