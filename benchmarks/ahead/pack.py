"""Packages: the float models of recipes, ready to be trained elsewhere."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.ahead import PLAN, called, settled_by
from edgecifar.benchmarks.chain import announce, require_feasible
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_json, write_whole
from edgecifar.train.keras_files import first_line

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.ahead.programs import Program
    from edgecifar.train.data import Dataset
    from edgecifar.train.ema import WeightAverage
    from edgecifar.train.settings import Training

# Of the machine that the package is for, whatever this one has. float16 would need its losses
# scaled, and what computes in it computes in bfloat16 too.
_POLICIES = {"auto": "mixed_bfloat16", "bfloat16": "mixed_bfloat16", "float32": "float32"}


def pack(
    names: tuple[str, ...], dataset: "Dataset", out: Path, *, seeds: tuple[int, ...] = ()
) -> None:
    """Write a package that trains the float models of recipes, each after its teachers.

    Those that teach no other are trained with each of `seeds`, without these with their own.
    Raises EdgecifarError, before anything is written, for a recipe that can't be compiled, for one
    whose teachers don't come before it, and if `out` exists.
    """
    if out.exists():
        raise EdgecifarError(f"{out} exists: choose another --out")
    chosen: dict[str, Recipe] = {}
    sources: dict[str, str] = {}
    for name, recipe in _seeded(names, seeds):
        fit = called(name, recipe)
        if fit in chosen:
            raise EdgecifarError(f"two recipes are called {fit}: leave one out")
        _require_packable(name, recipe, chosen)
        require_feasible(recipe, dataset)
        chosen[fit] = recipe
        sources[fit] = str(Path(name).resolve()) if name.endswith(".toml") else name
    write_whole(out, partial(_write, chosen, sources, dataset))


def _seeded(names: tuple[str, ...], seeds: tuple[int, ...]) -> Iterator[tuple[str, Recipe]]:
    """Yield the recipes of `names`, with each of `seeds` unless they teach another."""
    found = [(name, recipes.read(name)) for name in names]
    teachers = {fit for _, recipe in found for fit in _teachers(recipe)}
    for name, recipe in found:
        taught = seeds and called(name, recipe) not in teachers
        for seed in seeds if taught else (recipe.seed,):
            yield name, replace(recipe, seed=seed)


def _teachers(recipe: Recipe) -> dict[str, Recipe]:
    """Return a recipe's teachers by what their fits are called."""
    read = ((name, recipes.read(name)) for name in recipe.teachers)
    return {called(name, teacher): teacher for name, teacher in read}


def _require_packable(name: str, recipe: Recipe, before: Mapping[str, Recipe]) -> None:
    if recipe.transfer:
        raise EdgecifarError(f"{name} starts from pretrained weights: use `edgecifar run {name}`")
    for fit, teacher in _teachers(recipe).items():
        if fit not in before:
            raise EdgecifarError(f"{fit} teaches {name}: name it before {name}")
        if settled_by(teacher) != settled_by(before[fit]):
            raise EdgecifarError(f"{fit} teaches {name}, and another of that name was given")
    if recipe.train.augment.mixup:  # which draws from a gamma distribution
        raise EdgecifarError(
            f"{name} has augment.mixup, which XLA can't compile: use `edgecifar run {name}`"
        )
    if recipe.train.precision not in _POLICIES:
        raise EdgecifarError(f"{name} computes in float16: set precision to bfloat16")


def _write(
    chosen: Mapping[str, Recipe], sources: Mapping[str, str], dataset: "Dataset", out: Path
) -> None:
    for folder in ("programs", "starts", "results"):
        (out / folder).mkdir(parents=True)
    shutil.copy(str(files("edgecifar.train.ahead") / "machine.py"), out)
    np.savez(out / "images.npz", **_labelled(dataset, "train"), **_labelled(dataset, "validation"))
    fits = []
    for name, recipe in chosen.items():
        announce(f"compiling {name}")
        teachers = {teacher: chosen[teacher] for teacher in _teachers(recipe)}
        fit = {
            "name": name,
            "source": sources[name],
            "settled_by": settled_by(recipe),
            "policy": _POLICIES[recipe.train.precision],
            "seed": recipe.seed,
            "batch_size": recipe.train.batch_size,
            "early_stopping": recipe.train.early_stopping,
            "teachers": list(teachers),
            **_compile(name, recipe, teachers, dataset, out),
        }
        start = (out / "starts" / f"{name}.npz").read_bytes()
        told = json.dumps([dataset.fingerprint, fit], sort_keys=True).encode()
        # By this the results of another package are told from its own.
        fits.append(fit | {"digest": hashlib.sha256(told + start).hexdigest()})
    write_json(out / PLAN, {"data": dataset.fingerprint, "fits": fits})


def _labelled(dataset: "Dataset", split: str) -> dict[str, np.ndarray]:
    part = dataset.splits[split]
    return {f"{split}_images": part.images, f"{split}_labels": part.labels.astype(np.int32)}


def _compile(
    name: str, recipe: Recipe, teachers: Mapping[str, Recipe], dataset: "Dataset", out: Path
) -> dict[str, Any]:
    """Write the programs and the start of one fit; return what the plan says of them."""
    import tensorflow as tf

    from edgecifar.train.ahead import programs
    from edgecifar.train.ema import WeightAverage
    from edgecifar.train.pipeline import steps_per_epoch

    settings, count = recipe.train, len(dataset.train)
    rate = programs.GivenRate()
    model = _compiled_model(recipe, dataset, rate)
    average = WeightAverage(settings.ema) if settings.ema else None
    if average:
        average.set_model(model)
    state = _variables(model, average)
    classes = len(dataset.classes)
    compiler = programs.Compiler(model, rate, average, dataset.image_size, classes, state)
    views = min(recipe.distil.views, settings.epochs) if teachers else None
    try:
        compiled = {
            "epoch": compiler.epoch(settings, count=count, views=views),
            "validation": compiler.validation(count=len(dataset.validation)),
        }
        said = {
            teacher: programs.answers(_model(made, dataset), settings.augment, count=count)
            for teacher, made in teachers.items()
        }
    except tf.errors.InvalidArgumentError as error:
        raise EdgecifarError(
            f"XLA can't compile {name} ({first_line(error)}): use `edgecifar run {name}`"
        ) from error
    np.savez(
        out / "starts" / f"{name}.npz",
        rates=_rates(settings, steps_per_epoch(dataset.train, settings)),
        **_each_once([variable.numpy() for variable in state]),
    )
    return {
        "views": views,
        "kept": _places_of_best(model, average, state),
        "programs": {
            **{key: _store(program, f"{name}-{key}", out) for key, program in compiled.items()},
            "answers": [
                _store(program, f"{name}-{teacher}", out) for teacher, program in said.items()
            ],
        },
    }


def _each_once(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays to be stored by their numbers, equal ones once, and the `numbers` of all.

    An average begins as the weights that it is of, and an optimizer with nothing but zeros.
    """
    kept: dict[tuple, int] = {}
    keys = [(array.dtype.str, array.shape, array.tobytes()) for array in arrays]
    numbers = np.array([kept.setdefault(key, len(kept)) for key in keys])
    return {"numbers": numbers, **{str(kept[k]): a for k, a in zip(keys, arrays, strict=True)}}


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
    model.reset_metrics()
    return model


def _model(recipe: Recipe, dataset: "Dataset") -> "keras.Model":
    from edgecifar.train import models
    from edgecifar.train.precision import under
    from edgecifar.train.session import seeded_build

    with under(_POLICIES[recipe.train.precision]):
        return seeded_build(models.find(recipe.architecture), dataset, recipe.seed)


def _variables(model: "keras.Model", average: "WeightAverage | None") -> list:
    from edgecifar.train.checkpoint import random_states

    measured = (variable for metric in model.metrics for variable in metric.variables)
    found = [*model.weights, *model.optimizer.variables, *measured]
    if average:
        found += [*average.averages, average.step]
    return found + [generator.state for generator in random_states(model)]


def _places_of_best(
    model: "keras.Model", average: "WeightAverage | None", state: list
) -> list[int]:
    """Return where in the state the weights are that are validated and kept."""
    places = {id(variable): number for number, variable in enumerate(state)}
    pairs = zip(average.weights, average.averages, strict=True) if average else ()
    means = {id(weight): mean for weight, mean in pairs}
    return [places[id(means.get(id(weight), weight))] for weight in model.weights]


def _store(program: "Program", name: str, out: Path) -> dict[str, Any]:
    """Write a program's code; return what else there is to it."""
    (out / "programs" / f"{name}.mlir").write_bytes(program.code)
    return {**asdict(replace(program, code=b"")), "code": f"{name}.mlir"}
