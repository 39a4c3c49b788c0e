"""A training run from start to finish: build, fit, evaluate, save."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.train import models
from edgecifar.train.recipe import Training
from edgecifar.train.run import Run, start_run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset


def train(
    architecture: str,
    dataset: "Dataset",
    settings: Training,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    tensorboard: bool = False,
) -> Run:
    """Train `architecture` on `dataset` into the run folder `out`; resume it if it was begun.

    The run ends with validation figures only: the test images wait for `evaluate`.
    """
    from edgecifar.train.loop import apply_precision, fit, require_batches

    known = models.find(architecture)
    require_batches(dataset, settings)
    identity = {
        "stage": "train",
        "architecture": architecture,
        "recipe": dataclasses.asdict(settings),
        "seed": seed,
        "parent": None,
    }
    run = start_run(out, identity, dataset, force=force)
    policy = apply_precision(settings.precision)
    model = seeded_build(known, dataset, seed)
    result = fit(model, dataset, settings, run.path, seed=seed, tensorboard=tensorboard)
    if policy != "float32":
        apply_precision("float32")
        trained, model = model, seeded_build(known, dataset, seed)
        model.set_weights(trained.get_weights())
    finish(run, model, dataset, result)
    return run


def seeded_build(architecture: models.Architecture, dataset: "Dataset", seed: int) -> "keras.Model":
    """Build a model for the dataset's images and classes, with initial weights from `seed`."""
    import tf_keras as keras

    keras.utils.set_random_seed(seed)
    height, width = dataset.train.images.shape[1:3]
    return architecture.build((height, width), len(dataset.classes))


def finish(run: Run, model: "keras.Model", dataset: "Dataset", result) -> None:
    """Write what a fit ended with; metrics.json comes last and marks the run as complete."""
    from edgecifar.train.evaluate import evaluate
    from edgecifar.train.macs import count_macs

    run.save_model(model)
    run.update(
        parameters=model.count_params(),
        macs=count_macs(model),
        best_epoch=result.best_epoch,
        epochs=len(result.history),
        train_seconds=round(result.seconds, 1),
        images_per_second=round(result.images_per_second, 1),
    )
    figures, probabilities = evaluate(model, dataset.validation, dataset.classes)
    run.save_predictions("validation", probabilities, dataset.validation.labels)
    run.save_metrics({"validation": figures})
