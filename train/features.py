"""A head on frozen features: what a backbone makes of the images, computed once and kept."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.train.files import alone_in, remove_partial, write_rows, write_whole
from edgecifar.train.inference import outputs
from edgecifar.train.models.backbone import Backbone
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.data import Dataset, Split
    from edgecifar.train.pipeline import Feed
    from edgecifar.train.trunk import Trunk

_BATCH = 64


@dataclass(frozen=True)
class HeadFit:
    """What the fit came to, and the seconds that the features took, few if they were there."""

    fit: "Fit"
    feature_seconds: float


def fit_head(
    backbone: "Backbone | Trunk",
    model: "keras.Model",
    dataset: "Dataset",
    settings: Training,
    folder: Path,
    *,
    seed: int,
) -> HeadFit:
    """Fit the head of `model` alone, in place, on what its backbone makes of the images.

    Features and checkpoints go to `folder/head`, the history to `folder/history.csv` too, where
    that of the second phase replaces it. Raises EdgecifarError if another process is at work in
    either phase.
    """
    import tf_keras as keras

    from edgecifar.train.loop import fit

    place = folder / "head"
    with alone_in(folder):  # its subfolder is locked by the fit, but for that alone
        remove_partial(place)
        pooled = keras.Model(model.input, model.get_layer(backbone.pooled).output)
        start = time.perf_counter()
        tables = [
            cached_features(pooled, split, place / f"features-{name}.npy", name=name)
            for name, split in (("train", dataset.train), ("validation", dataset.validation))
        ]
        feature_seconds = time.perf_counter() - start
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(tables[0].shape[1:])
        alone = keras.Model(inputs, backbone.head(inputs, len(dataset.classes)))
        feed = feature_feed(*tables, dataset, settings, seed=seed)
        result = fit(feed, alone, settings, place, seed=seed)
        for layer in alone.layers[1:]:
            model.get_layer(layer.name).set_weights(layer.get_weights())
        write_rows(folder / "history.csv", result.history)
    return HeadFit(result, feature_seconds)


def cached_features(
    extractor: "keras.Model", split: "Split", path: Path, *, name: str
) -> np.ndarray:
    """Return features of a split's images, float32 [n, channels], computed once into `path`."""
    from edgecifar.train.pipeline import evaluation_batches, images_at_once
    from edgecifar.train.progress import progress

    def write(partial_path: Path) -> None:
        shape = (len(split), extractor.output_shape[-1])
        table = np.lib.format.open_memmap(partial_path, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):  # or a full disk ends the process at the first write
            with partial_path.open("rb+") as stream:
                os.posix_fallocate(stream.fileno(), 0, partial_path.stat().st_size)
        at_once = min(_BATCH, images_at_once(extractor))
        batches = evaluation_batches(split, 1, batch_size=at_once)
        with progress() as bar:
            task = bar.add_task(f"features of the {name} images", total=len(split))
            done = 0
            extractor.make_predict_function()  # here, or each thread would make its own
            for found in outputs(extractor.predict_on_batch, (images for images, _ in batches)):
                table[done : done + len(found)] = found
                done += len(found)
                bar.advance(task, len(found))
        table.flush()

    if not path.exists():
        write_whole(path, write)
    return np.load(path, mmap_mode="r")


def feature_feed(
    train_table: np.ndarray,
    validation_table: np.ndarray,
    dataset: "Dataset",
    settings: Training,
    *,
    seed: int,
) -> "Feed":
    """Return tables of features, float32 [n, channels], as batches with the images' targets."""
    import tensorflow as tf

    from edgecifar.train.pipeline import Feed, epoch_order, steps_per_epoch, untuned

    def targets(split: "Split"):
        return tf.one_hot(split.labels, len(dataset.classes))

    inputs, wanted = tf.constant(np.asarray(train_table)), targets(dataset.train)

    def epoch_batches(epoch):
        epoch_seed = tf.stack([seed, tf.cast(epoch, tf.int32)])
        order = epoch_order(len(train_table), settings.batch_size, epoch_seed)
        return tf.data.Dataset.from_tensor_slices(order)

    def training(first_epoch: int) -> "tf.data.Dataset":
        epochs = tf.data.Dataset.range(first_epoch, settings.epochs).flat_map(epoch_batches)
        return untuned(epochs.map(lambda rows: (tf.gather(inputs, rows), tf.gather(wanted, rows))))

    validation = tf.data.Dataset.from_tensor_slices(
        (np.asarray(validation_table), targets(dataset.validation))
    )
    return Feed(
        training=training,
        validation=lambda _: untuned(validation.batch(settings.batch_size)),
        steps=steps_per_epoch(dataset.train, settings),
    )
