"""Distillation: a student learns the probabilities that a larger network gives each image."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.compress.teacher import SMALLEST, answer_views
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.parsing import from_mapping, require
from edgecifar.train.run import Run, start_run
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset
    from edgecifar.train.pipeline import Feed, Goals

_ANSWERS = "teacher"  # the folder in a run


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How much a student listens to its teacher, and to how many views of the images.

    The loss is `weight * T^2 * KL(teacher || student) + (1 - weight) * cross-entropy`, with both
    distributions softened by the temperature T. Source: Hinton et al., "Distilling the Knowledge
    in a Neural Network", 2015.
    """

    weight: float = 0.9
    temperature: float = 3.0
    views: int = 20  # epochs whose batches the teacher judges; later ones repeat them, varied

    def __post_init__(self) -> None:
        warm, finite = self.temperature, "above 0, and no more than is finite"
        require(0 <= self.weight <= 1, "distil.weight", self.weight, "0 to 1")
        require(0 < warm < math.inf, "distil.temperature", warm, finite)
        require(self.views >= 1, "distil.views", self.views, "1 or more")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """One finished run or several, whose probabilities are averaged.

    What it says of the images is kept in each student's folder, unless several students share
    the folder `answers`.
    """

    runs: tuple[Run, ...]
    recipe: Distillation = Distillation()
    answers: Path | None = None

    @property
    def name(self) -> str:
        """The names of its runs, such as `base+small`."""
        return "+".join(run.name for run in self.runs)

    def require_fit(self, dataset: "Dataset", settings: Training) -> None:
        """Raise EdgecifarError unless all runs know the data and labels are not smoothed."""
        for run in self.runs:
            run.require_data(dataset)
        if settings.label_smoothing:
            raise EdgecifarError(
                "label_smoothing blurs what a teacher says: set it to 0 for distillation"
            )

    def identity(self) -> dict:
        """Return what run.json says of the teacher."""
        return {
            "runs": [run.name for run in self.runs],
            "models": [run.digest for run in self.runs],
            **dataclasses.asdict(self.recipe),
        }


def distil(
    teacher: Teacher,
    student: str,
    dataset: "Dataset",
    settings: Training,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
) -> Run:
    """Train the architecture `student` on what `teacher` says into the run folder `out`.

    Resumes if it was begun. What the teacher says is kept in the folder too.
    """
    from edgecifar.train.loop import require_batches
    from edgecifar.train.session import fit_architecture, require_own

    known = models.find(student)
    require_batches(dataset, settings)
    known.built_for(dataset.image_size, len(dataset.classes))  # or it raises, before any work
    teacher.require_fit(dataset, settings)
    how = {"stage": "distil", "architecture": student, "seed": seed}
    run = start_run(out, dataset, settings, force=force, teacher=teacher.identity(), **how)
    require_own(run)
    feed = taught_feed(teacher, dataset, settings, run, seed=seed)
    fit_architecture(run, known, dataset, settings, seed=seed, feed=feed)
    return run


def taught_settings(teacher: Teacher | None, dataset: "Dataset", settings: Training) -> Training:
    """Return `settings` for going on with a model, with unsmoothed labels if there is a teacher.

    Raises EdgecifarError if the teacher doesn't know the data.
    """
    if not teacher:
        return settings
    settings = dataclasses.replace(settings, label_smoothing=0.0)
    teacher.require_fit(dataset, settings)
    return settings


def fine_tuning_feed(
    teacher: Teacher | None,
    dataset: "Dataset",
    settings: Training,
    run: Run,
    *,
    seed: int,
    parent: Run,
) -> "Feed":
    """Return what `run`, made from `parent`, is fitted to: labels alone, or what `teacher` says."""
    from edgecifar.train.pipeline import image_feed

    if teacher:
        return taught_feed(teacher, dataset, settings, run, seed=seed, parent=parent)
    return image_feed(dataset, settings, seed=seed)


def taught_feed(
    teacher: Teacher,
    dataset: "Dataset",
    settings: Training,
    run: Run,
    *,
    seed: int,
    parent: Run | None = None,
) -> "Feed":
    """Return the training images with their labels and what `teacher` says of each view.

    Its answers are computed before the first step into the folder of `run`, unless they are there,
    in that of `parent` or in one that students share. Views that `parent` has learned are varied
    from the first epoch on.
    """
    import tensorflow as tf

    from edgecifar.train.pipeline import Feed, image_feed, training_batches

    views = min(teacher.recipe.views, settings.epochs)
    seen = parent is not None and _has_learned(parent, teacher, settings, seed)
    answers = answer_views(
        teacher.runs,
        dataset,
        settings,
        teacher.answers or run.path / _ANSWERS,
        views=views,
        seed=seed,
        earlier=parent.path / _ANSWERS if parent else None,
    )
    classes = len(dataset.classes)
    how = {"seed": seed, "views": views, "seen": int(seen)}

    def training(first_epoch: int) -> tf.data.Dataset:
        labelled = training_batches(
            dataset.train, classes, settings, first_epoch=first_epoch, **how
        )
        return tf.data.Dataset.zip(labelled, answers.batches(first_epoch)).map(
            lambda labelled, answer: (labelled[0], tf.concat([labelled[1], answer], axis=1))
        )

    plain = image_feed(dataset, settings, seed=seed)
    goals = distillation_goals(teacher.recipe, classes)
    return Feed(training, plain.validation, plain.steps, goals)


def _has_learned(parent: Run, teacher: Teacher, settings: Training, seed: int) -> bool:
    """Tell whether `parent` was trained on the views that `teacher` is now to judge.

    By its run.json, which stays as it is, whatever becomes of folders with answers.
    """
    info = parent.info
    if (info.get("teacher") or {}).get("models") != teacher.identity()["models"]:
        return False
    learned = from_mapping(Training, info["recipe"])
    return (learned.augment, info["seed"]) == (settings.augment, seed)


def distillation_goals(recipe: Distillation, classes: int) -> "Goals":
    """Return loss and accuracy for targets [batch, 2 * classes].

    These are shares of classes, then the teacher's log-probabilities. Targets without the second
    half, as in validation, are compared by cross-entropy alone.
    """
    import tensorflow as tf
    import tf_keras as keras

    from edgecifar.train.pipeline import Goals

    def loss(targets, probabilities):
        hard = keras.losses.categorical_crossentropy(targets[:, :classes], probabilities)
        if targets.shape[1] == classes:
            return hard
        soft = divergence(targets[:, classes:], probabilities, recipe.temperature)
        return recipe.weight * recipe.temperature**2 * soft + (1 - recipe.weight) * hard

    def accuracy(targets, probabilities):
        return keras.metrics.categorical_accuracy(targets[:, :classes], probabilities)

    def divergence(teacher, probabilities, temperature):
        # The logarithm of a probability is its logit but for a constant, which softmax ignores.
        student = tf.math.log(tf.maximum(probabilities, SMALLEST)) / temperature
        theirs = tf.nn.log_softmax(teacher / temperature)
        gap = theirs - tf.nn.log_softmax(student)
        return tf.reduce_sum(tf.exp(theirs) * gap, axis=1)

    return Goals(loss, accuracy)
