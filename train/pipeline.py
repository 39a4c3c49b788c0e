"""Training batches as a tf.data pipeline that two cores can keep up with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecifar.train.augment import Draw, augment, blend, draw, mix_up, vary
from edgecifar.train.normalisation import normalise
from edgecifar.train.settings import Augmentation, Training

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

    from edgecifar.train.data import Dataset, Split


_MOST_EVALUATED = 500
_LAYERS_KEPT = 16  # as much memory does it take to keep what all layers of a network put out
_EVALUATED_PIXELS = 500 * 96 * 96  # at once: EfficientNet-Lite0 takes a GB for as many


@dataclass(frozen=True)
class Feed:
    """Batches of (inputs, targets) to fit a model to.

    Targets are shares of classes, [batch, classes], one-hot unless images are mixed, and compared
    by cross-entropy, unless there are `goals`.
    """

    training: Callable[[int], "tf.data.Dataset"]  # from the given epoch to the last
    validation: Callable[["keras.Model"], "tf.data.Dataset"]  # as many at once as it can take
    steps: int  # batches in an epoch
    goals: "Goals | None" = None


@dataclass(frozen=True)
class Goals:
    """Functions of (targets, probabilities) that give a figure for each image: [batch]."""

    loss: Callable
    accuracy: Callable


def image_feed(dataset: "Dataset", settings: Training, *, seed: int) -> Feed:
    """Return the images of a data set, for training augmented as `settings` say."""
    classes = len(dataset.classes)
    return Feed(
        training=lambda epoch: training_batches(
            dataset.train, classes, settings, seed=seed, first_epoch=epoch
        ),
        validation=lambda model: evaluation_batches(
            dataset.validation, classes, batch_size=images_at_once(model)
        ),
        steps=steps_per_epoch(dataset.train, settings),
    )


def training_batches(
    split: "Split",
    classes: int,
    settings: Training,
    *,
    seed: int,
    first_epoch: int = 0,
    views: int | None = None,
    seen: int = 0,
) -> "tf.data.Dataset":
    """Return batches (images, targets) from `first_epoch` to the last of `settings`.

    Images are float32 [batch, height, width, 3], augmented and normalised; targets float32 [batch,
    classes], the shares of classes in an image. What an epoch holds depends on (seed, epoch) alone,
    so that a resumed run continues exactly. Every epoch has `steps_per_epoch` full batches. With
    `views` all epochs from that number on repeat the first ones, batch by batch, but for `vary`, to
    which the first ones are the repetition that `seen` counts.
    """
    import tensorflow as tf

    count, steps = len(split.labels), steps_per_epoch(split, settings)
    labels = tf.constant(split.labels, tf.int32)

    def epoch_steps(epoch):
        epoch_seed = tf.stack([seed, _view(epoch, views)])
        order = epoch_order(count, settings.batch_size, epoch_seed)
        width = split.images.shape[2]
        numbers = epoch_numbers(
            count, settings.augment, seed, epoch, width=width, views=views, seen=seen
        )
        batches = Draw(*(tf.gather(table, order) for table in numbers))
        step_seeds = tf.random.stateless_uniform([steps, 2], epoch_seed, None, None, tf.int32)
        return tf.data.Dataset.from_tensor_slices((order, batches, step_seeds))

    def read(index):
        images = tf.numpy_function(lambda i: split.images[i], [index], tf.uint8, stateful=False)
        return tf.ensure_shape(images, [settings.batch_size, *split.images.shape[1:]])

    def known(index):
        return tf.one_hot(tf.gather(labels, index), classes)

    def batch(index, numbers, step_seed):
        images, targets = examples(index, numbers, settings.augment, read=read, known=known)
        if settings.augment.mixup:
            images, targets = mix_up(images, targets, settings.augment.mixup, step_seed)
        return images, targets

    epochs = tf.data.Dataset.range(first_epoch, settings.epochs)
    return untuned(epochs.flat_map(epoch_steps).map(batch, num_parallel_calls=1).prefetch(2))


def examples(
    index, numbers: Draw, settings: Augmentation, *, read: Callable, known: Callable
) -> tuple:
    """Return augmented and normalised images, and their targets, both float32.

    `read` gives the images at indices, int32 [n], uint8 [n, height, width, 3], and `known` their
    shares of classes, [n, classes].
    """
    images, targets, others = read(index), known(index), None
    if settings.cutmix:
        others = read(numbers.other)
        targets = blend(targets, known(numbers.other), numbers, images)
    return normalise(augment(images, numbers, settings, others)), targets


def epoch_numbers(
    count: int,
    settings: Augmentation,
    seed,
    epoch,
    *,
    width: int,
    views: int | None = None,
    seen: int = 0,
) -> Draw:
    """Return the random numbers of an epoch for `count` images; see `training_batches`."""
    import tensorflow as tf

    numbers = draw(count, settings, tf.stack([seed, _view(epoch, views)]))
    if not views:
        return numbers
    repeat = seen + tf.cast(epoch, tf.int32) // views
    varied_seed = tf.stack([seed, tf.cast(epoch, tf.int32)])
    return vary(numbers, settings, varied_seed, repeat=repeat, width=width)


def _view(epoch, views: int | None):
    import tensorflow as tf

    return tf.cast(epoch % views if views else epoch, tf.int32)


def untuned(batches: "tf.data.Dataset") -> "tf.data.Dataset":
    """Return `batches` without tf.data's autotuning.

    Its thread at times misses that an iterator ends and sleeps on, for up to as long as the
    iterator was in use, while the end of the epoch waits for it (seen with TensorFlow 2.21).
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def epoch_order(count: int, batch_size: int, epoch_seed):
    """Return shuffled indices below `count`, int32 [full batches, batch_size].

    `epoch_seed` is an int32 tensor [2]: (run's seed, epoch).
    """
    import tensorflow as tf

    steps = count // batch_size
    order = tf.random.experimental.stateless_shuffle(tf.range(count), epoch_seed)
    return tf.reshape(order[: steps * batch_size], [steps, batch_size])


def steps_per_epoch(split: "Split", settings: Training) -> int:
    """Return the number of full batches in an epoch."""
    return len(split.labels) // settings.batch_size


def images_at_once(model: "keras.Model") -> int:
    """Return how many images `model` can evaluate at once, to whatever size it enlarges them."""
    from edgecifar.train.macs import calls

    sizes = (shape[1:3] for _, shapes in calls(model) for shape in shapes if len(shape) == 4)
    return min((_fitting(size) for size in sizes if None not in size), default=_MOST_EVALUATED)


def images_kept_at_once(model: "keras.Model") -> int:
    """Return of how many images what all layers put out can be kept at once."""
    return max(1, images_at_once(model) // _LAYERS_KEPT)


def _fitting(size: tuple[int, int]) -> int:
    return min(_MOST_EVALUATED, max(1, _EVALUATED_PIXELS // (size[0] * size[1])))


def evaluation_batches(split: "Split", classes: int, *, batch_size: int) -> "tf.data.Dataset":
    """Return the images of a split once, in order, normalised, with one-hot targets."""
    import tensorflow as tf

    def batch(start):
        images, labels = tf.numpy_function(
            lambda first: (
                split.images[first : first + batch_size],
                split.labels[first : first + batch_size],
            ),
            [start],
            [tf.uint8, tf.int64],
            stateful=False,
        )
        images = tf.ensure_shape(images, [None, *split.images.shape[1:]])
        return normalise(tf.cast(images, tf.float32)), tf.one_hot(
            tf.ensure_shape(labels, [None]), classes
        )

    starts = tf.data.Dataset.range(0, len(split.labels), batch_size)
    return untuned(starts.map(batch).prefetch(2))
