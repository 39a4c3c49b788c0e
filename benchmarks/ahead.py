"""Recipes whose float models are trained on a machine without TensorFlow, and brought back.

A package is a folder to be copied there and back: programs that TensorFlow compiled here, what
they start from, the images, and the script that carries them out with JAX.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.chain import announce, require_feasible
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import read_json, write_json, write_rows
from edgecifar.train.run import Run, RunFinishedError, start_run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.train.ahead.programs import Program
    from edgecifar.train.data import Dataset
    from edgecifar.train.settings import Training

_PLAN = "plan.json"
_UNCOMPILED = ("rotation", "shift", "mixup")  # changes of images that XLA has no operations for


def pack(names: tuple[str, ...], dataset: "Dataset", out: Path) -> None:
    """Write a package that trains the float models of recipes, each after its teachers.

    Raises EdgecifarError for a recipe that can't be compiled, for one whose teachers don't come
    before it, and if `out` exists.
    """
    if out.exists():
        raise EdgecifarError(f"{out} exists: choose another --out")
    chosen: dict[str, Recipe] = {}
    for name in names:
        recipe = recipes.read(name)
        _require_packable(name, recipe, chosen)
        require_feasible(recipe, dataset)
        chosen[_stem(name)] = recipe
    for folder in ("programs", "starts", "results"):
        (out / folder).mkdir(parents=True)
    np.savez(
        out / "images.npz",
        **{
            f"{split}_{key}": array
            for split in ("train", "validation")
            for key, array in _arrays(dataset, split).items()
        },
    )
    shutil.copy(str(files("edgecifar.train.ahead") / "machine.py"), out)
    fits = []
    for source, (name, recipe) in zip(names, chosen.items(), strict=True):
        announce(f"compiling {name}")
        teachers = {_stem(teacher): chosen[_stem(teacher)] for teacher in recipe.teachers}
        fits.append({"source": source, **_pack(name, recipe, teachers, dataset, out)})
    write_json(out / _PLAN, {"data": dataset.fingerprint, "fits": fits})


def take(folder: Path, dataset: "Dataset", root: Path) -> list[Run]:
    """Make runs, under `root`, of what the machine finished of a package; return the new ones.

    They lie where `run` looks for them. Raises EdgecifarError if the folder is no package or was
    packed with other images or recipes.
    """
    if not (folder / _PLAN).exists():
        raise EdgecifarError(f"{folder} is no package: give what `edgecifar ahead pack` wrote")
    plan = read_json(folder / _PLAN)
    if plan["data"] != dataset.fingerprint:
        raise EdgecifarError(f"{folder} was packed with other images: give the same --data")
    taken = []
    for fit in plan["fits"]:
        recipe = recipes.read(fit["source"])
        if json.loads(json.dumps(asdict(recipe))) != fit["recipe"]:
            raise EdgecifarError(f"the recipe {fit['name']} has changed since: pack it again")
        if (folder / "results" / f"{fit['name']}.json").exists():
            taken += _take(fit["name"], recipe, folder / "results", dataset, root)
    return taken


def _stem(name: str) -> str:
    """Return what the results of a recipe, a name or a TOML file, are called."""
    return Path(name).stem


def _require_packable(name: str, recipe: Recipe, before: Mapping[str, Recipe]) -> None:
    missing = [teacher for teacher in recipe.teachers if _stem(teacher) not in before]
    augment = asdict(recipe.train.augment)
    if recipe.transfer:
        raise EdgecifarError(f"{name} starts from pretrained weights: use `edgecifar run {name}`")
    if missing:
        raise EdgecifarError(f"{missing[0]} teaches {name}: name it before {name}")
    if uncompiled := [key for key in _UNCOMPILED if augment[key]]:
        raise EdgecifarError(
            f"{name} has augment.{uncompiled[0]}, which XLA can't compile: use `edgecifar run "
            f"{name}`"
        )
    if recipe.train.early_stopping:
        raise EdgecifarError(f"{name} may stop early, and a package can't: set early_stopping to 0")


def _arrays(dataset: "Dataset", split: str) -> dict[str, np.ndarray]:
    part = dataset.splits[split]
    return {"images": part.images, "labels": part.labels.astype(np.int32)}


def _pack(
    name: str, recipe: Recipe, teachers: Mapping[str, Recipe], dataset: "Dataset", out: Path
) -> dict[str, Any]:
    """Write the programs and the start of one recipe's fit; return what the plan says of it."""
    from edgecifar.train.ahead import programs
    from edgecifar.train.ema import WeightAverage
    from edgecifar.train.pipeline import steps_per_epoch

    settings, count = recipe.train, len(dataset.train)
    steps = steps_per_epoch(dataset.train, settings)
    rate = programs.GivenRate()
    model = _compiled_model(recipe, dataset, rate)
    average = WeightAverage(settings.ema) if settings.ema else None
    if average:
        average.set_model(model)
    state = _variables(model, average)
    compiler = programs.Compiler(
        model, rate, average, dataset.image_size, len(dataset.classes), state
    )
    views = min(recipe.distil.views, settings.epochs) if teachers else None
    compiled = {
        "epoch": compiler.epoch(settings, count=count, views=views),
        "validation": compiler.validation(count=len(dataset.validation)),
    }
    said = [
        programs.answers(_model(teacher, dataset), settings.augment, count=count)
        for teacher in teachers.values()
    ]
    np.savez(
        out / "starts" / f"{name}.npz",
        rates=_rates(settings, steps),
        **{str(place): variable.numpy() for place, variable in enumerate(state)},
    )
    places = {id(variable): place for place, variable in enumerate(state)}
    averages = average.averages if average else []
    means = dict(zip(map(id, average.weights if average else []), averages, strict=True))
    return {
        "name": name,
        "recipe": asdict(recipe),
        "seed": recipe.seed,
        "batch_size": settings.batch_size,
        "teachers": list(teachers),
        "views": views,
        "kept": [places[id(means.get(id(weight), weight))] for weight in model.weights],
        "programs": {
            **{key: _write(program, out) for key, program in compiled.items()},
            "answers": [_write(program, out) for program in said],
        },
    }


def _rates(settings: "Training", steps: int) -> np.ndarray:
    """Return the learning rate of each step, float32 [epochs, steps]."""
    import tensorflow as tf

    from edgecifar.train.loop import schedule

    rate, numbers = schedule(settings, steps), tf.range(settings.epochs * steps)
    if callable(rate):
        found = tf.function(tf.map_fn)(rate, numbers, fn_output_signature=tf.float32).numpy()
    else:
        found = np.full(len(numbers), rate, np.float32)
    return found.reshape(settings.epochs, steps)


def _compiled_model(recipe: Recipe, dataset: "Dataset", rate) -> "keras.Model":
    """Return the first weights of a recipe's network, with all that a step needs."""
    from edgecifar.compress.distil import distillation_goals
    from edgecifar.train.loop import compile_for

    classes = len(dataset.classes)
    model = _model(recipe, dataset)
    goals = distillation_goals(recipe.distil, classes) if recipe.teachers else None
    compile_for(model, recipe.train, steps=1, goals=goals, rate=rate)
    model.optimizer.build(model.trainable_variables)
    # Keras makes the metrics when they are first asked for.
    model.test_on_batch(np.zeros((1, *dataset.image_size, 3), np.float32), np.eye(1, classes))
    return model


def _model(recipe: Recipe, dataset: "Dataset") -> "keras.Model":
    from edgecifar.train import models
    from edgecifar.train.precision import computing_in
    from edgecifar.train.session import seeded_build

    with computing_in(recipe.train.precision):
        return seeded_build(models.find(recipe.architecture), dataset, recipe.seed)


def _variables(model: "keras.Model", average) -> list:
    from edgecifar.train.checkpoint import random_states

    found = [*model.weights, *model.optimizer.variables]
    if average:
        found += [*average.averages, average.step]
    return found + [generator.state for generator in random_states(model)]


def _write(program: "Program", out: Path) -> dict[str, Any]:
    """Write a program's code, once for all that have the same; return how it is called."""
    code = f"{hashlib.sha256(program.code).hexdigest()[:16]}.mlir"
    (out / "programs" / code).write_bytes(program.code)
    return {**asdict(replace(program, code=b"")), "code": code}


def _take(name: str, recipe: Recipe, results: Path, dataset: "Dataset", root: Path) -> list[Run]:
    """Make a run of one recipe's result; nothing if it is there already."""
    from edgecifar.train import models
    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.session import finish, seeded_build

    known = models.find(recipe.architecture)
    teacher = _teacher(recipe, root)
    how = {"stage": "distil", "teacher": teacher.identity()} if teacher else {"stage": "train"}
    try:
        run = start_run(
            _place(name, recipe, root),
            dataset,
            recipe.train,
            force=False,
            architecture=recipe.architecture,
            seed=recipe.seed,
            **how,
        )
    except RunFinishedError:
        return []
    record, weights = read_json(results / f"{name}.json"), np.load(results / f"{name}.npz")
    model = seeded_build(known, dataset, recipe.seed)
    model.set_weights([weights[str(place)] for place in range(len(weights.files))])
    write_rows(run.path / "history.csv", record["history"])
    fit = Fit.of(record["history"], record["best_epoch"])
    machine = f"{record['device']}, JAX {record['jax']}"
    finish(run, known.deploy(model) if known.deploy else model, dataset, fit, trained_on=machine)
    return [run]


def _teacher(recipe: Recipe, root: Path) -> "Teacher | None":
    from edgecifar.compress.distil import Teacher

    schools = [(name, recipes.read(name)) for name in recipe.teachers]
    runs = tuple(Run(_place(name, school, root)) for name, school in schools)
    for run in runs:
        if not run.complete:
            raise EdgecifarError(f"the teacher {run.path} is unfinished: take its package first")
    return Teacher(runs, recipe.distil) if runs else None


def _place(name: str, recipe: Recipe, root: Path) -> Path:
    return root / recipes.folder_name(name, seed=recipe.seed) / recipe.architecture
