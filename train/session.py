"""A training run from start to finish: build, fit, evaluate, save."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.files import alone_in, remove_partial
from edgecifar.train.keras_files import hold_random_states
from edgecifar.train.parsing import from_mapping
from edgecifar.train.run import Run, start_run
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.data import Dataset
    from edgecifar.train.pipeline import Feed


def train(
    architecture: str,
    dataset: "Dataset",
    settings: Training,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    tensorboard: bool = False,
    strategy: str = "none",
) -> Run:
    """Train `architecture` on `dataset` into the run folder `out`; resume it if it was begun.

    The run ends with validation figures only: the test images wait for `evaluate`.
    """
    from edgecifar.train.devices import start_strategy
    from edgecifar.train.loop import require_batches

    known = models.find(architecture)
    require_batches(dataset, settings)
    known.built_for(dataset.image_size, len(dataset.classes))  # or it raises, before any work
    devices = start_strategy(strategy, batch_size=settings.batch_size)
    how = {"stage": "train", "architecture": architecture, "seed": seed}
    run = start_run(out, dataset, settings, force=force, **how)
    require_own(run)
    fit_architecture(
        run, known, dataset, settings, seed=seed, tensorboard=tensorboard, devices=devices
    )
    return run


def require_own(run: Run) -> None:
    """Raise EdgecifarError if an unfinished run isn't one that training here would finish."""
    if run.info.get("brought_back"):
        raise EdgecifarError(
            f"{run.path} is unfinished and was trained elsewhere: repeat `edgecifar ahead take`"
        )


def inherited(parent: Run, dataset: "Dataset") -> Training:
    """Return the settings with which the model of `parent` was trained, to go on from.

    Raises EdgecifarError if it was trained on other data, or if these don't fill a batch.
    """
    from edgecifar.train.loop import require_batches

    parent.require_data(dataset)
    settings = from_mapping(Training, parent.info["recipe"])
    require_batches(dataset, settings)
    return settings


def fit_architecture(
    run: Run, known: models.Architecture, dataset: "Dataset", settings: Training, **how
) -> None:
    """Build a network from its first weights, fit it and finish `run` with what is deployed of it.

    `how` are the keyword arguments of `fit_built`.
    """
    model, result = fit_built(
        lambda: seeded_build(known, dataset, how["seed"]), dataset, settings, run.path, **how
    )
    finish(run, known.deployed(model), dataset, result)


def fit_built(
    build: Callable[[], "keras.Model"],
    dataset: "Dataset",
    settings: Training,
    folder: Path,
    *,
    seed: int,
    tensorboard: bool = False,
    devices: "tf.distribute.Strategy | None" = None,
    feed: "Feed | None" = None,
) -> "tuple[keras.Model, Fit]":
    """Fit what `build` returns, in the precision and on the devices that are asked for.

    `feed` replaces the images and labels of `dataset`. Returns a float32 model with the weights of
    the best epoch, and the record of the fit.
    """
    from edgecifar.train.devices import replicate
    from edgecifar.train.loop import fit
    from edgecifar.train.pipeline import image_feed
    from edgecifar.train.precision import computing_in

    with computing_in(settings.precision) as policy:
        model = build()
        feed = feed or image_feed(dataset, settings, seed=seed)
        with devices.scope() if devices else contextlib.nullcontext():
            fitted = replicate(model) if devices else model
            result = fit(feed, fitted, settings, folder, seed=seed, tensorboard=tensorboard)
    if policy != "float32":
        model = build()
    if fitted is not model:
        model.set_weights(fitted.get_weights())
    return model, result


def seeded_build(architecture: models.Architecture, dataset: "Dataset", seed: int) -> "keras.Model":
    """Build a model for the dataset's images and classes, with initial weights from `seed`."""
    import tf_keras as keras

    hold_random_states()
    keras.utils.set_random_seed(seed)
    keras.backend.reset_uids()  # layers are called the same whatever was built before
    model = architecture.build(dataset.image_size, len(dataset.classes))
    if architecture.initialise:
        architecture.initialise(model, dataset.train.images)
    return model


def finish(
    run: Run, model: "keras.Model", dataset: "Dataset", result: "Fit", **details: object
) -> None:
    """Write what a fit ended with, and `details` of it; see `record`."""
    from edgecifar.train.precision import policy_for

    told = {
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "train_seconds": round(result.seconds, 1),
        "images_per_second": round(result.images_per_second, 1),
        "computed_in": policy_for(run.info["recipe"]["precision"]),
    }
    record(run, model, dataset, **told | details)


def record(run: Run, model: "keras.Model", dataset: "Dataset", **details: object) -> None:
    """Write a run's model, its size and `details`; metrics.json comes last: the run is complete.

    Among the details may be other sizes than those of `model` itself. What only an unfinished run
    needs goes. Raises EdgecifarError if another process is at work in the run.
    """
    from edgecifar.train.checkpoint import remove_checkpoints
    from edgecifar.train.evaluate import evaluate
    from edgecifar.train.macs import count_macs

    with alone_in(run.path):
        remove_partial(run.path)
        run.save_model(model)
        run.update(**{"parameters": model.count_params(), "macs": count_macs(model), **details})
        figures, probabilities = evaluate(model, dataset.validation, dataset.classes)
        run.save_predictions("validation", probabilities, dataset.validation.labels)
        run.save_metrics({"validation": figures})
        remove_checkpoints(run.path)
