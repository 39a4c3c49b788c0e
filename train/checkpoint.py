"""Checkpoints: one whole folder an epoch, from which a killed run goes on exactly."""

import random
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import (
    discard,
    read_json,
    remove_partial,
    write_json,
    write_rows,
    write_whole,
)

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.ema import WeightAverage


class DivergedError(EdgecifarError):
    """The loss is no longer finite: the same settings would fail again."""


@dataclass(frozen=True)
class Fit:
    """What fitting ended with. `history` holds a dict an epoch, as history.csv does."""

    history: tuple[dict[str, float], ...]
    best_epoch: int  # counted from 1
    seconds: float  # of all epochs, those before an interruption included
    images_per_second: float

    @classmethod
    def of(cls, history: Sequence[dict[str, float]], best_epoch: int) -> "Fit":
        """Return the record of epochs, whose speed is the median of theirs."""
        speed = statistics.median_high(row["images_per_second"] for row in history)
        seconds = sum(row["seconds"] for row in history)
        return cls(tuple(history), best_epoch, seconds, speed)

    @property
    def best_accuracy(self) -> float:
        """The share of the validation images that the best epoch's model was right on."""
        return self.history[self.best_epoch - 1]["val_accuracy"]


class Checkpoints:
    """The state of a fit in `folder/checkpoints`, and the best weights seen so far.

    Each checkpoint holds the model, the optimizer, the weight average, the best weights and the
    history. Only the newest is kept: a rename makes it visible, then the older one goes.
    """

    def __init__(self, folder: Path, model: "keras.Model", average: "WeightAverage | None"):
        self.folder = folder
        self.model = model
        self.average = average
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0

    def restore(self) -> int:
        """Prepare for fitting, load the newest checkpoint if any; return the epochs done."""
        import tensorflow as tf

        if self.average:
            self.average.set_model(self.model)
        self.model.optimizer.build(self.model.trainable_variables)
        self._best = [tf.Variable(w, trainable=False) for w in self.model.weights]
        self._state = tf.train.Checkpoint(
            model=self.model,
            optimizer=self.model.optimizer,
            best=self._best,
            dropout=random_states(self.model),
            **(
                {"averages": self.average.averages, "step": self.average.step}
                if self.average
                else {}
            ),
        )
        remove_partial(self.folder / "checkpoints")
        newest = newest_checkpoint(self.folder)
        if newest is None:
            return 0
        record = read_json(newest / "progress.json")
        self._require_same_state(record["loss_scaled"])
        try:
            self._state.read(str(newest / "state")).assert_consumed()
        except (AssertionError, LookupError, ValueError, tf.errors.OpError) as error:
            raise EdgecifarError(
                f"the checkpoint {newest} is damaged: delete it, and the run begins anew"
            ) from error
        self.history, self.best_epoch = record["history"], record["best_epoch"]
        return len(self.history)

    def _require_same_state(self, scaled: bool) -> None:
        """Raise EdgecifarError if losses were scaled, as for float16, and aren't here, or are."""
        if scaled != self._scales_losses:
            began, here = ("float16", "float32") if scaled else ("float32", "float16")
            raise EdgecifarError(
                f"{self.folder} was begun in {began} and would go on in {here}: go on where there "
                f"is {'a' if scaled else 'no'} GPU, or begin anew with --force"
            )

    @property
    def _scales_losses(self) -> bool:
        """Whether the optimizer's state has a scale, too."""
        import tf_keras as keras

        return isinstance(self.model.optimizer, keras.mixed_precision.LossScaleOptimizer)

    def callback(self) -> "keras.callbacks.Callback":
        """Return the Keras callback that saves after each epoch."""
        import tf_keras as keras

        return keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: self._epoch_end(logs))

    def finish(self) -> Fit:
        """Give the model its best weights and return the record of the fit."""
        for weight, best in zip(self.model.weights, self._best, strict=True):
            weight.assign(best)
        write_rows(self.folder / "history.csv", self.history)  # a kill may have come before it
        return Fit.of(self.history, self.best_epoch)

    def _epoch_end(self, logs: dict[str, float]) -> None:
        row = {"epoch": len(self.history) + 1} | {key: float(logs[key]) for key in _COLUMNS}
        self.history.append(row)
        best = max(self.history, key=lambda r: (r["val_accuracy"], -r["val_loss"]))
        if best is row:
            self.best_epoch = row["epoch"]
            self._keep_best()
        write_whole(_checkpoint(self.folder, row["epoch"]), self._save)
        for old in _checkpoints(self.folder)[:-1]:
            shutil.rmtree(old)
        write_rows(self.folder / "history.csv", self.history)

    def _keep_best(self) -> None:
        """Copy what was validated: the average where there is one."""
        if self.average:
            self.average.exchange()
        for best, weight in zip(self._best, self.model.weights, strict=True):
            best.assign(weight)
        if self.average:
            self.average.exchange()

    def _save(self, folder: Path) -> None:
        import tensorflow as tf

        folder.mkdir()
        try:
            self._state.write(str(folder / "state"))
        except tf.errors.OpError as error:  # as of a full disk
            told = error.message.splitlines()[0]
            raise EdgecifarError(
                f"no checkpoint can be written in {self.folder} ({told}): mend that, free some "
                "space, and run it again"
            ) from error
        record = {"history": self.history, "best_epoch": self.best_epoch}
        record |= {"loss_scaled": self._scales_losses}
        write_json(folder / "progress.json", record)


_PHASES = (".", "head", "ramp", "rounds/*")  # a run's folders that models are fitted into
_COLUMNS = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "images_per_second",
)


def random_states(model: "keras.Model") -> list:
    """Return the generators of dropout layers, which Keras leaves out of checkpoints.

    Without them a resumed run would drop other units. Keras has no public way to them.
    """
    holders = [getattr(layer, "layer", layer) for layer in model.layers]
    holders = [layer._random_generator for layer in holders if hasattr(layer, "_random_generator")]
    return [holder._generator for holder in holders if holder._generator is not None]


def seed_dropout(model: "keras.Model", seed: int) -> None:
    """Let what dropout drops follow from `seed`, however the layers came about.

    Loaded or copied ones have a random state of their own in each process.
    """
    seeds = random.Random(seed)
    for generator in random_states(model):
        generator.reset_from_seed(seeds.randrange(2**31))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint under a run's folder, or None."""
    return next(reversed(_checkpoints(folder)), None)


def remove_checkpoints(run: Path) -> None:
    """Remove the checkpoints of all phases of the run in the folder `run`, which is finished."""
    for phase in _PHASES:
        for folder in run.glob(f"{phase}/checkpoints"):
            discard(folder)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("epoch-*"))


def _checkpoint(folder: Path, epoch: int) -> Path:
    return folder / "checkpoints" / f"epoch-{epoch:05d}"
