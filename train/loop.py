"""The training loop: fit a model, validate each epoch, keep the best, survive interruptions."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.checkpoint import Checkpoints, Fit
from edgecifar.train.files import alone_in
from edgecifar.train.pipeline import Feed, Goals
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset


def fit(
    feed: Feed,
    model: "keras.Model",
    settings: Training,
    folder: Path,
    *,
    seed: int,
    tensorboard: bool = False,
    callbacks: tuple = (),
) -> Fit:
    """Fit `model` in place and leave it with the weights of the best validated epoch.

    Checkpoints and history.csv go to `folder`, one an epoch; if some are there, training goes on
    after the newest. Raises DivergedError when the loss stops being finite (the last checkpoint
    stays), and EdgecifarError if another process is fitting into `folder`.
    """
    import tf_keras as keras

    from edgecifar.train.callbacks import DivergenceGuard, EarlyStop, EpochClock, ProgressBar
    from edgecifar.train.ema import WeightAverage

    keras.utils.set_random_seed(seed)
    compile_for(model, settings, steps=feed.steps, goals=feed.goals)
    average = WeightAverage(settings.ema) if settings.ema else None
    checkpoints = Checkpoints(folder, model, average)
    with alone_in(folder):
        first_epoch = checkpoints.restore()
        stop = EarlyStop(checkpoints, settings.early_stopping)
        bar = ProgressBar(settings.epochs, feed.steps, first_epoch)
        # Keras calls these in order: the clock completes the logs that the checkpoint then records.
        watchers = [
            *([average] if average else []),
            *callbacks,
            DivergenceGuard(),
            EpochClock(images=feed.steps * settings.batch_size),
            checkpoints.callback(),
            stop,
            bar,
        ]
        if tensorboard:
            watchers.append(keras.callbacks.TensorBoard(folder / "tensorboard"))
        if first_epoch < settings.epochs and not stop.is_due():
            try:
                model.fit(
                    feed.training(first_epoch),
                    epochs=settings.epochs,
                    initial_epoch=first_epoch,
                    steps_per_epoch=feed.steps,
                    validation_data=feed.validation(model),
                    callbacks=watchers,
                    verbose=0,
                )
            except KeyboardInterrupt:
                done = len(checkpoints.history)
                kept = f"{done} of {settings.epochs} epochs are kept"
                bar.say(f"{kept}: the same command, without --force, goes on")
                raise
            finally:
                bar.close()
        return checkpoints.finish()


def compile_for(
    model: "keras.Model",
    settings: Training,
    *,
    steps: int,
    goals: Goals | None = None,
    rate: "keras.optimizers.schedules.LearningRateSchedule | None" = None,
) -> None:
    """Compile `model` with the optimizer, schedule and loss of `settings`.

    `steps` is the number of batches an epoch, from which the schedule takes its length. `goals`
    replace the cross-entropy of `settings`, and the accuracy; `rate` replaces the schedule.
    """
    import tf_keras as keras

    loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    accuracy = goals.accuracy if goals else keras.metrics.categorical_accuracy
    model.compile(
        optimizer=_optimizer(model, settings, rate or schedule(settings, steps)),
        loss=goals.loss if goals else loss,
        metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
    )


def schedule(
    settings: Training, steps: int
) -> "keras.optimizers.schedules.LearningRateSchedule | float":
    """Return the learning rate of `settings` for epochs of so many steps."""
    import tf_keras as keras

    rate, total = settings.learning_rate, steps * settings.epochs
    warmup, falls = math.ceil(settings.warmup * total), settings.schedule == "cosine"
    if not (warmup or falls):
        return rate
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else rate,
        max(1, total - warmup),
        alpha=0.0 if falls else 1.0,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


def _optimizer(model: "keras.Model", settings: Training, rate):
    import tf_keras as keras

    decay = settings.weight_decay or None
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    elif settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay or 0.0)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
    if decay:
        spared = [v for v in model.trainable_variables if v.shape.rank < 2]
        if spared:  # biases and batch-norm scales
            optimizer.exclude_from_weight_decay(var_list=spared)
    return optimizer


def require_batches(dataset: "Dataset", settings: Training) -> None:
    """Raise EdgecifarError if the images don't fill one batch, or are smaller than their moves."""
    size, crop = min(dataset.image_size), settings.augment.crop
    if crop + 1 >= size:  # repeated views move by a pixel more
        raise EdgecifarError(
            f"augment.crop is {crop}: images of {size} pixels can be moved by {size - 2} at most"
        )
    count = len(dataset.train.labels)
    if count < settings.batch_size:
        most = max(1, count // 4)
        raise EdgecifarError(
            f"{count} training images don't fill a batch of {settings.batch_size}: "
            f"set batch_size to {most}{' or less' if most > 1 else ''}"
        )
