"""What watches a fit: divergence, early stopping, time, and the progress bar."""

import math
import time

import tf_keras as keras

from edgecifar.train.checkpoint import Checkpoints, DivergedError


class DivergenceGuard(keras.callbacks.Callback):
    """Ends training at the first loss that isn't finite, before anything is saved."""

    def __init__(self):
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch, for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Check the running mean of the loss, which one bad batch spoils for good."""
        if not math.isfinite(logs["loss"]):
            kept = f"epoch {self._epoch} is kept" if self._epoch else "nothing was saved yet"
            raise DivergedError(
                f"the loss is no longer finite in epoch {self._epoch + 1}, step {batch + 1} "
                f"({kept}): lower learning_rate"
            )


class EpochClock(keras.callbacks.Callback):
    """Adds seconds, images a second and the learning rate to the logs of each epoch."""

    def __init__(self, *, images: int):
        super().__init__()
        self.images = images
        self._start = self._trained = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self._start = time.perf_counter()

    def on_test_begin(self, logs=None):
        """Note when training ended, so that images a second leave validation out."""
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Complete the logs."""
        optimizer = self.model.optimizer
        logs["seconds"] = time.perf_counter() - self._start
        logs["images_per_second"] = self.images / (self._trained - self._start)
        logs["learning_rate"] = float(keras.backend.get_value(optimizer.learning_rate))


class EarlyStop(keras.callbacks.Callback):
    """Ends training when `patience` epochs brought no better validation; 0 never does."""

    def __init__(self, checkpoints: Checkpoints, patience: int):
        super().__init__()
        self.checkpoints = checkpoints
        self.patience = patience

    def is_due(self) -> bool:
        """Tell whether the history already asks for a stop."""
        waited = len(self.checkpoints.history) - self.checkpoints.best_epoch
        return bool(self.patience) and waited >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        """Stop if it is time."""
        self.model.stop_training = self.is_due()


class ProgressBar(keras.callbacks.Callback):
    """One bar for all steps, with the latest validation accuracy beside it."""

    def __init__(self, epochs: int, steps: int, first_epoch: int):
        super().__init__()
        self.epochs, self.steps, self.first_epoch = epochs, steps, first_epoch
        self._bar = None

    def on_train_begin(self, logs=None):
        """Show the bar, as far along as the run already is."""
        from edgecifar.train.progress import progress

        self._bar = progress()
        self._bar.start()
        self._task = self._bar.add_task(
            "training", total=self.epochs * self.steps, completed=self.first_epoch * self.steps
        )

    def on_train_batch_end(self, batch, logs=None):
        """Advance by a step."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch, logs=None):
        """Name the epoch and its validation accuracy."""
        text = f"epoch {epoch + 1}/{self.epochs}, validation {100 * logs['val_accuracy']:.2f} %"
        self._bar.update(self._task, description=text)
        if not self._bar.console.is_terminal:
            self.say(f"{text}, loss {logs['loss']:.4f}, {logs['seconds']:.0f} s")

    def say(self, text: str):
        """Print a line above the bar."""
        if self._bar:
            self._bar.console.print(text)

    def close(self):
        """Take the bar down, however training ended."""
        if self._bar:
            self._bar.stop()
