"""What a teacher says of training images, kept in files so that it is asked only once."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.train.files import (
    alone_in,
    read_json,
    remove_partial,
    write_array,
    write_json,
    write_whole,
)
from edgecifar.train.inference import outputs
from edgecifar.train.keras_files import is_quantization_aware
from edgecifar.train.parsing import completed
from edgecifar.train.precision import quickest_policy, recast
from edgecifar.train.run import Run
from edgecifar.train.settings import Augmentation, Training

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

    from edgecifar.train.data import Dataset

# float16 holds the logarithms of probabilities down to this one with three digits.
SMALLEST = 1e-30
_NOTE = "key.json"


@dataclass(frozen=True)
class Answers:
    """Log-probabilities of the training batches of the first epochs, one file an epoch.

    Each holds float16 [steps, batch, classes], in the order of `training_batches`.
    """

    files: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        return self.files[0].parent

    def batches(self, first_epoch: int) -> "tf.data.Dataset":
        """Return endless float32 [batch, classes] from `first_epoch` on, repeating the files."""
        import tensorflow as tf

        tables = [np.load(path, mmap_mode="r") for path in self.files]
        steps, *shape = tables[0].shape

        def read(epoch, step):
            return tables[epoch % len(tables)][step].astype(np.float32)

        def batch(number):
            places = [first_epoch + number // steps, number % steps]
            return tf.ensure_shape(tf.numpy_function(read, places, tf.float32), shape)

        return tf.data.Dataset.counter().map(batch)


def answer_views(
    runs: Sequence[Run],
    dataset: "Dataset",
    settings: Training,
    folder: Path,
    *,
    views: int,
    seed: int,
    earlier: Path | None = None,
) -> Answers:
    """Ask the models of `runs` about the first `views` epochs of training batches.

    The mean of their probabilities goes to `folder`, view by view: what a killed process has
    finished is kept, and what other models, settings or data gave is replaced. The folder
    `earlier` serves instead if it holds all answers to the same questions. Raises EdgecifarError if
    another process is filling the folder.
    """
    from edgecifar.train.progress import progress

    key = _key(runs, dataset, settings, seed)
    for known in filter(None, (earlier, folder)):
        files = tuple(known / f"view-{number:03d}.npy" for number in range(views))
        if _is_for(known, key) and all(path.exists() for path in files):
            return Answers(files)
    with alone_in(folder), progress() as bar:
        remove_partial(folder)
        _require_same(folder, key)
        missing = [number for number, path in enumerate(files) if not path.exists()]
        task = bar.add_task("teacher", total=views, completed=views - len(missing))
        ask = _Panel(runs, dataset, settings, seed)
        for number in missing:
            write_whole(files[number], partial(write_array, array=ask(number)))
            bar.advance(task)
    return Answers(files)


class _Panel:
    """The models of some runs, asked about the batches of a view."""

    def __init__(self, runs: Sequence[Run], dataset: "Dataset", settings: Training, seed: int):
        self._models = [_quickened(run.load_model()) for run in runs]
        for model in self._models:
            model.make_predict_function()  # here, or each thread would make its own
        self._dataset, self._settings, self._seed = dataset, settings, seed

    def __call__(self, view: int) -> np.ndarray:
        """Return log-probabilities, float16 [steps, batch, classes]."""
        from edgecifar.train.pipeline import steps_per_epoch, training_batches

        split, classes = self._dataset.train, len(self._dataset.classes)
        steps = steps_per_epoch(split, self._settings)
        batches = training_batches(
            split, classes, self._settings, seed=self._seed, first_epoch=view
        )
        said = list(outputs(self._ask, (images for images, _ in batches.take(steps))))
        return np.log(np.maximum(said, SMALLEST)).astype(np.float16)

    def _ask(self, images) -> np.ndarray:
        return np.mean([model.predict_on_batch(images) for model in self._models], axis=0)


def _quickened(model: "keras.Model") -> "keras.Model":
    """Return `model` in half precision where that is quicker.

    float16, which GPUs have, has the three digits kept here; bfloat16, which CPUs have, a little
    over two. Not one that simulates int8, whose rounding needs the full mantissa.
    """
    return model if is_quantization_aware(model) else recast(model, quickest_policy())


def _key(runs: Sequence[Run], dataset: "Dataset", settings: Training, seed: int) -> dict:
    """Return all that the answers depend on."""
    return {
        "models": [run.digest for run in runs],
        "data": dataset.fingerprint,
        "augment": asdict(settings.augment),
        "batch_size": settings.batch_size,
        "policy": quickest_policy(),
        "seed": seed,
    }


def _require_same(folder: Path, key: dict) -> None:
    """Empty `folder` unless it was filled under the same key, and note the key."""
    if not _is_for(folder, key):
        for old in folder.glob("view-*.npy"):
            old.unlink()
        write_json(folder / _NOTE, key)


def _is_for(folder: Path, key: dict) -> bool:
    if not (folder / _NOTE).exists():
        return False
    noted = read_json(folder / _NOTE)
    return noted | {"augment": completed(Augmentation, noted["augment"])} == key
