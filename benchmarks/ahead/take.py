"""Runs of what was trained elsewhere, as if it had been trained here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.ahead import PLAN, place, settled_by
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import alone_in, read_json, sha256, write_rows
from edgecifar.train.run import Run, RunDiffersError, RunFinishedError, start_run

if TYPE_CHECKING:
    from edgecifar.compress.distil import Teacher
    from edgecifar.train.data import Dataset


def take(
    folder: Path, dataset: "Dataset", root: Path, report: Callable[[Run], object] = lambda run: None
) -> list[Run]:
    """Make runs, under `root`, of what the machine finished of a package; return the new ones.

    They lie where `run` looks for them; each is reported. Raises EdgecifarError if the folder is no
    package, was packed with other images or has no results; and, when all others are taken, if
    recipes have changed, files are damaged or other runs stand in their place.
    """
    if not (folder / PLAN).exists():
        raise EdgecifarError(f"{folder} is no package: give what `edgecifar ahead pack` wrote")
    plan, results = read_json(folder / PLAN), folder / "results"
    if plan["data"] != dataset.fingerprint:
        raise EdgecifarError(f"{folder} was packed with other images: give the same --data")
    done = [fit for fit in plan["fits"] if (results / f"{fit['name']}.json").exists()]
    if not done:
        raise EdgecifarError(
            f"{results} is empty: run machine.py where JAX is, and copy its results back"
        )
    taken, refused = [], []
    for fit in done:
        try:
            if run := _take(fit, results, dataset, root):
                report(run)
                taken.append(run)
        except EdgecifarError as error:
            refused.append(str(error))
    if refused:
        raise EdgecifarError("; ".join(refused))
    return taken


def _take(fit: dict[str, Any], results: Path, dataset: "Dataset", root: Path) -> Run | None:
    """Make a run of one recipe's result; None if that was done."""
    from edgecifar.train import models
    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.session import finish, seeded_build

    recipe = replace(recipes.read(fit["source"]), seed=fit["seed"])
    if settled_by(recipe) != fit["settled_by"]:
        raise EdgecifarError(f"the recipe {fit['name']} has changed since: pack it again")
    record, weights, digest = _read(fit, results)
    out, teacher = place(fit["source"], recipe, root), _teacher(recipe, record["teachers"], root)
    how = {"stage": "distil", "teacher": teacher.identity()} if teacher else {"stage": "train"}
    how |= {"architecture": recipe.architecture, "seed": recipe.seed}
    try:
        run = start_run(out, dataset, recipe.train, force=False, **how)
    except (RunFinishedError, RunDiffersError) as there:
        if isinstance(there, RunFinishedError) and there.run.info.get("brought_back") == digest:
            return None
        raise EdgecifarError(
            f"{out} was made otherwise than by this package: move it away, or give another --runs"
        ) from there
    known = models.find(recipe.architecture)
    model = seeded_build(known, dataset, recipe.seed)
    model.set_weights(weights)
    with alone_in(run.path):
        run.update(brought_back=digest)  # none that `run` goes on with, should this be killed
        write_rows(run.path / "history.csv", record["history"])
    finish(
        run,
        known.deployed(model),
        dataset,
        Fit.of(record["history"], record["best_epoch"]),
        computed_in=fit["policy"],
        trained_on=f"{record['device']}, JAX {record['jax']}",
        brought_back=digest,
        **({recipes.TAUGHT_BY: recipe.taught_by()} if teacher else {}),
    )
    return run


def _read(fit: dict[str, Any], results: Path) -> tuple[dict[str, Any], list[np.ndarray], str]:
    """Return a fit's record, its weights, and the SHA-256 of the file with these."""
    record, path = read_json(results / f"{fit['name']}.json"), results / f"{fit['name']}.npz"
    if record["fit"] != fit["digest"]:
        raise EdgecifarError(
            f"the results of {fit['name']} are of another package: delete them there and here, "
            "and run machine.py again"
        )
    digest = sha256(path) if path.exists() else None
    if digest is None or digest != record.get("weights"):
        raise EdgecifarError(f"{path} is damaged or missing: copy results again")
    with np.load(path) as arrays:
        weights = [arrays[str(number)] for number in range(len(arrays.files))]
    return record, weights, digest


def _teacher(recipe: Recipe, weights: list[str], root: Path) -> "Teacher | None":
    """Return a recipe's teachers, whose weights the machine had in files of these SHA-256."""
    from edgecifar.compress.distil import Teacher

    runs = tuple(Run(place(name, recipes.read(name), root)) for name in recipe.teachers)
    for run, digest in zip(runs, weights, strict=True):
        if not run.complete:
            raise EdgecifarError(f"the teacher {run.path} is unfinished: take its results first")
        if run.info.get("brought_back") != digest:
            raise EdgecifarError(
                f"{run.path} isn't the teacher that the machine had: move it away, and take that"
            )
    return Teacher(runs, recipe.distil) if runs else None
