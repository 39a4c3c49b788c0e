"""Random changes to whole batches of training images, as TensorFlow graph operations.

Random numbers come from a table with a row an image, drawn statelessly from the seed and the epoch
(`mix_up` draws one for each batch). So a batch depends on nothing but (seed, epoch, step): a
resumed run sees what an uninterrupted one would have seen, and a teacher's view can be reproduced
for its student.
"""

import math
from typing import NamedTuple

from edgecifar.train.settings import Augmentation


class Draw(NamedTuple):
    """The random numbers of one epoch or batch: tensors [n, ...] of the kind named."""

    flip: object  # bool [n]
    crop: object  # int32 [n, 2]: rows and columns, -crop..crop
    shift: object  # float32 [n, 2]: rows and columns as a fraction of the size
    angle: object  # float32 [n]: radians
    cutout: object  # float32 [n, 2]: centre as a fraction of the size
    other: object  # int32 [n]: index of the image that a part is taken from
    part: object  # float32 [n, 3]: its centre and edge as fractions of the size; edge 0 is none


def draw(count: int, settings: Augmentation, seed):
    """Draw for `count` images; `seed` is an int tensor [2], such as (run's seed, epoch)."""
    import tensorflow as tf

    def uniform(salt: int, shape, low, high, dtype=tf.float32):
        mixed = tf.random.fold_in(tf.cast(seed, tf.int32), salt)
        return tf.random.stateless_uniform(shape, mixed, low, high, dtype)

    flips = uniform(0, [count], 0, 2, tf.int32)
    if settings.flip == "alternating":
        # Half the images are flipped in even epochs, the others in odd ones: over two epochs each
        # image is seen both ways once, which random flips only give on average (airbench).
        fixed = tf.random.stateless_uniform(
            [count], tf.stack([tf.cast(seed[0], tf.int32), -1]), 0, 2, tf.int32
        )
        flips = (fixed + tf.cast(seed[1], tf.int32)) % 2
    elif settings.flip == "none":
        flips = tf.zeros_like(flips)
    turn = math.radians(settings.rotation)
    pasted = tf.cast(uniform(8, [count], 0.0, 1.0) < settings.cutmix, tf.float32)
    edge = pasted * tf.sqrt(uniform(7, [count], 0.0, 1.0))  # so that all areas are as likely
    return Draw(
        flip=tf.cast(flips, tf.bool),
        crop=uniform(1, [count, 2], -settings.crop, settings.crop + 1, tf.int32),
        shift=uniform(2, [count, 2], -settings.shift, settings.shift),
        angle=uniform(3, [count], -turn, turn),
        cutout=uniform(4, [count, 2], 0.0, 1.0),
        other=uniform(6, [count], 0, count, tf.int32),
        part=tf.concat([uniform(5, [count, 2], 0.0, 1.0), edge[:, None]], axis=1),
    )


def vary(numbers: Draw, settings: Augmentation, seed, *, repeat, width: int):
    """Change the draw of a view for its repetitions by what hardly changes a teacher's answer.

    In every second one (`repeat` counts them, an int tensor, 0 the view itself) the augmented
    images, of `width` pixels, are mirrored, and in all of them moved by a pixel at most, if
    `settings` mirror and move at all. So a student doesn't learn a few views by heart.
    """
    import tensorflow as tf

    if settings.flip != "none":
        mirrored = repeat % 2 == 1
        numbers = Draw(
            *(
                tf.where(mirrored, *pair)
                for pair in zip(_mirror(numbers, width), numbers, strict=True)
            )
        )
    if settings.crop:
        mixed = tf.random.fold_in(seed, 9)
        moved = tf.random.stateless_uniform(tf.shape(numbers.crop), mixed, -1, 2, tf.int32)
        numbers = numbers._replace(crop=numbers.crop + tf.where(repeat > 0, moved, 0))
    return numbers


def _mirror(numbers: Draw, width: int) -> Draw:
    """Return the draw that gives the mirror images of what `numbers` gives."""
    import tensorflow as tf

    def turned(pairs, across):
        return tf.stack([pairs[:, 0], across], axis=1)

    return numbers._replace(
        flip=tf.math.logical_not(numbers.flip),
        crop=turned(numbers.crop, -numbers.crop[:, 1]),
        shift=turned(numbers.shift, -numbers.shift[:, 1]),
        angle=-numbers.angle,
        cutout=turned(numbers.cutout, 1 - 1 / width - numbers.cutout[:, 1]),
    )


def augment(images, numbers: Draw, settings: Augmentation, others=None):
    """Apply a draw to uint8 images [n, height, width, 3]; returns float32 pixels 0..255.

    `others` are the images at `numbers.other`, parts of which `settings.cutmix` pastes (Yun et al.,
    "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019).
    Raises ValueError if it does and they are missing.
    """
    import tensorflow as tf

    if settings.cutmix:
        if others is None:
            raise ValueError("cutmix pastes parts of others: give these images")
        images = tf.where(_crossing(*_pasted(numbers, images)), others, images)
    if settings.flip != "none" or settings.crop:
        images = _move(images, numbers.flip, numbers.crop)
    images = tf.cast(images, tf.float32)
    if settings.rotation or settings.shift:
        images = _warp(images, numbers.angle, numbers.shift)
    if settings.cutout:
        images = _cut_out(images, numbers.cutout, settings.cutout)
    return images


def blend(targets, others, numbers: Draw, images):
    """Return targets [n, classes] of `images`, with those of the others by their parts' areas."""
    import tensorflow as tf

    rows, columns = (tf.cast(side, tf.float32) for side in _pasted(numbers, images))
    share = tf.reduce_mean(rows, axis=1) * tf.reduce_mean(columns, axis=1)
    return targets + share[:, None] * (others - targets)


def mix_up(images, targets, alpha: float, seed):
    """Blend each image and its target with the next one's, in one ratio from Beta(alpha, alpha)."""
    import tensorflow as tf

    first = tf.random.stateless_gamma([1], tf.random.fold_in(seed, 0), alpha)
    second = tf.random.stateless_gamma([1], tf.random.fold_in(seed, 1), alpha)
    ratio = tf.reshape(first / (first + second), [])
    images = ratio * images + (1 - ratio) * tf.roll(images, 1, axis=0)
    return images, ratio * targets + (1 - ratio) * tf.roll(targets, 1, axis=0)


def _move(images, flip, crop):
    """Mirror and translate by whole pixels in one gather, which costs a tenth of padding."""
    import tensorflow as tf

    count, height, width, channels = _shape(images)
    rows = _reflect(tf.range(height) + crop[:, :1], height)
    columns = _reflect(tf.range(width) + crop[:, 1:], width)
    columns = tf.where(flip[:, None], width - 1 - columns, columns)
    first = tf.range(count)[:, None, None] * (height * width)
    index = first + rows[:, :, None] * width + columns[:, None, :]
    return tf.gather(tf.reshape(images, [-1, channels]), index)


def _reflect(position, size: int):
    """Mirror positions outside 0..size-1 back inside, without repeating the edge."""
    import tensorflow as tf

    return (size - 1) - tf.abs((size - 1) - tf.abs(position))


def _warp(images, angle, shift):
    """Rotate about the centre and translate, bilinear, with the nearest pixels beyond the edge.

    By gathering, since XLA has no operation for projective transforms.
    """
    import tensorflow as tf

    count, height, width, channels = _shape(images)
    down = tf.range(height, dtype=tf.float32)[:, None] - (height - 1) / 2
    across = tf.range(width, dtype=tf.float32) - (width - 1) / 2
    cos, sin = tf.cos(angle)[:, None, None], tf.sin(angle)[:, None, None]
    rows = sin * across + cos * down + shift[:, :1, None] * height + (height - 1) / 2
    columns = cos * across - sin * down + shift[:, 1:, None] * width + (width - 1) / 2
    rows, columns = tf.clip_by_value(rows, 0, height - 1), tf.clip_by_value(columns, 0, width - 1)
    top, left = tf.cast(rows, tf.int32), tf.cast(columns, tf.int32)
    bottom, right = tf.minimum(top + 1, height - 1), tf.minimum(left + 1, width - 1)
    pixels = tf.reshape(images, [-1, channels])
    first = tf.range(count)[:, None, None] * (height * width)

    def between(one, other, share):
        return one + (other - one) * share[..., None]

    def row(number):
        start = first + number * width
        ends = tf.gather(pixels, start + left), tf.gather(pixels, start + right)
        return between(*ends, columns - tf.floor(columns))

    return between(row(top), row(bottom), rows - tf.floor(rows))


def _cut_out(images, centre, edge: int):
    import tensorflow as tf

    from edgecifar.train.normalisation import MEAN

    _, height, width, _ = _shape(images)
    rows = _near(centre[:, :1], height, edge / 2)
    columns = _near(centre[:, 1:], width, edge / 2)
    return tf.where(_crossing(rows, columns), MEAN, images)


def _crossing(rows, columns):
    """Return the pixels, bool [n, height, width, 1], that are in chosen rows and columns."""
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _pasted(numbers: Draw, images) -> tuple:
    """Return which rows and which columns have pixels of the other image: bool [n, size]."""
    _, *sizes, _ = _shape(images)
    edge = numbers.part[:, 2:]
    # Half a pixel less, so that a part without an edge has no pixels.
    return tuple(
        _near(numbers.part[:, axis, None], size, edge * size / 2 - 0.5)
        for axis, size in enumerate(sizes)
    )


def _near(centre, size: int, reach):
    """Return which of `size` pixels are within `reach` of a centre [n, 1], a fraction of size."""
    import tensorflow as tf

    return tf.abs(tf.range(size, dtype=tf.float32) - centre * size) <= reach


def _shape(images) -> tuple:
    """Return static sizes where they are known, else tensors."""
    import tensorflow as tf

    dynamic = tf.shape(images)
    return tuple(dynamic[axis] if size is None else size for axis, size in enumerate(images.shape))
