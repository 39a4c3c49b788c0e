"""Runs of what was trained elsewhere, as if it had been trained here."""

import zipfile
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


def take(folder: Path, dataset: "Dataset", root: Path) -> list[Run]:
    """Make runs, under `root`, of what the machine finished of a package; return the new ones.

    They lie where `run` looks for them. Raises EdgecifarError if the folder is no package, was
    packed with other images or recipes or has no results, and if other runs stand in their place.
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
    return [run for fit in done for run in _take(fit, results, dataset, root)]


def _take(fit: dict[str, Any], results: Path, dataset: "Dataset", root: Path) -> list[Run]:
    """Make a run of one recipe's result; nothing if that was done."""
    from edgecifar.train import models
    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.session import finish, seeded_build

    recipe = replace(recipes.read(fit["source"]), seed=fit["seed"])
    if settled_by(recipe) != fit["settled_by"]:
        raise EdgecifarError(f"the recipe {fit['name']} has changed since: pack it again")
    record, weights, digest = _read(fit, results)
    out, teacher = place(fit["source"], recipe, root), _teacher(recipe, root)
    how = {"stage": "distil", "teacher": teacher.identity()} if teacher else {"stage": "train"}
    how |= {"architecture": recipe.architecture, "seed": recipe.seed}
    try:
        run = start_run(out, dataset, recipe.train, force=False, **how)
    except (RunFinishedError, RunDiffersError) as there:
        if isinstance(there, RunFinishedError) and there.run.info.get("brought_back") == digest:
            return []
        raise EdgecifarError(
            f"{out} was made otherwise than by this package: delete it, or give another --runs"
        ) from there
    known = models.find(recipe.architecture)
    model = seeded_build(known, dataset, recipe.seed)
    model.set_weights(weights)
    with alone_in(run.path):
        write_rows(run.path / "history.csv", record["history"])
    finish(
        run,
        known.deploy(model) if known.deploy else model,
        dataset,
        Fit.of(record["history"], record["best_epoch"]),
        computed_in=fit["policy"],
        trained_on=f"{record['device']}, JAX {record['jax']}",
        brought_back=digest,
    )
    return [run]


def _read(fit: dict[str, Any], results: Path) -> tuple[dict[str, Any], list[np.ndarray], str]:
    """Return a fit's record, its weights, and the SHA-256 of the file with these."""
    record, path = read_json(results / f"{fit['name']}.json"), results / f"{fit['name']}.npz"
    if record["fit"] != fit["digest"]:
        raise EdgecifarError(
            f"the results of {fit['name']} are of another package: delete them there and here, "
            "and run machine.py again"
        )
    try:
        with np.load(path) as arrays:
            weights = [arrays[str(number)] for number in range(len(arrays.files))]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EdgecifarError(f"{path} is damaged or missing: copy results again") from error
    return record, weights, sha256(path)


def _teacher(recipe: Recipe, root: Path) -> "Teacher | None":
    from edgecifar.compress.distil import Teacher

    runs = tuple(Run(place(name, recipes.read(name), root)) for name in recipe.teachers)
    for run in runs:
        if not run.complete:
            raise EdgecifarError(f"the teacher {run.path} is unfinished: take its results first")
    return Teacher(runs, recipe.distil) if runs else None
