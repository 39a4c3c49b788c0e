import numpy as np
import pytest
import tensorflow as tf

from edgecifar.train.augment import augment, blend, draw, mix_up, vary
from edgecifar.train.settings import Augmentation

NOTHING = Augmentation(flip="none", crop=0)


@pytest.fixture
def images(digits):
    # Digits are almost symmetric at a glance, never pixel by pixel.
    return tf.constant(digits.train.images[:32])


def apply(images, settings, epoch=0, seed=0):
    numbers = draw(len(images), settings, tf.constant([seed, epoch]))
    return numbers, augment(images, numbers, settings).numpy()


def test_nothing_changes_nothing(images):
    _, out = apply(images, NOTHING)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, images)


def test_flip_mirrors_columns(images):
    numbers, out = apply(images, Augmentation(flip="random", crop=0))
    flipped = numbers.flip.numpy()
    assert 0 < flipped.sum() < len(images)
    np.testing.assert_array_equal(out[flipped], images.numpy()[flipped][:, :, ::-1])
    np.testing.assert_array_equal(out[~flipped], images.numpy()[~flipped])


def test_alternating_flip_shows_both_sides_in_two_epochs(images):
    settings = Augmentation(flip="alternating", crop=0)
    first, second, third = (apply(images, settings, epoch)[0].flip.numpy() for epoch in range(3))
    np.testing.assert_array_equal(first, ~second)
    np.testing.assert_array_equal(first, third)


def test_crop_is_a_translation_with_reflected_edges(images):
    numbers, out = apply(images, Augmentation(flip="none", crop=4))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for index, (down, right) in enumerate(numbers.crop.numpy()):
        expected = padded[index, 4 + down : 36 + down, 4 + right : 36 + right]
        np.testing.assert_array_equal(out[index], expected)
    assert np.abs(numbers.crop).max() == 4


def test_rotation_turns_about_the_centre(images):
    numbers, _ = apply(images, Augmentation(flip="none", crop=0, rotation=90))
    quarter = numbers._replace(angle=tf.fill([len(images)], np.float32(np.pi / 2)))
    out = augment(images, quarter, Augmentation(flip="none", crop=0, rotation=90))
    turned = np.rot90(images, 1, axes=(1, 2))
    # Interpolation at exact pixel centres, but for rounding in sine and cosine.
    np.testing.assert_allclose(out, turned, atol=0.1)


def test_shift_moves_by_its_fraction(images):
    settings = Augmentation(flip="none", crop=0, shift=0.25)
    numbers, _ = apply(images, settings)
    eighth = numbers._replace(shift=tf.fill([len(images), 2], 0.125))
    out = augment(images, eighth, settings).numpy()
    np.testing.assert_allclose(out[:, :28, :28], images.numpy()[:, 4:, 4:], atol=1e-3)


def test_cutout_covers_a_square(images):
    numbers, out = apply(images, Augmentation(flip="none", crop=0, cutout=8))
    middle = numbers._replace(cutout=tf.fill([len(images), 2], 0.5))
    out = augment(images, middle, Augmentation(flip="none", crop=0, cutout=8)).numpy()
    np.testing.assert_array_equal(out[:, 12:21, 12:21], 120)
    np.testing.assert_array_equal(out[:, :12], images.numpy()[:, :12])


def test_an_image_s_fate_depends_on_seed_and_epoch_alone(images):
    settings = Augmentation(crop=4, rotation=10, shift=0.1, cutout=8)
    _, once = apply(images, settings, epoch=3)
    _, again = apply(images, settings, epoch=3)
    _, later = apply(images, settings, epoch=4)
    _, elsewhere = apply(images, settings, epoch=3, seed=1)
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, later)
    assert not np.array_equal(once, elsewhere)


@pytest.mark.parametrize("repeat", [0, 1, 2])
def test_repeated_views_are_mirrored_and_moved_by_a_pixel(images, repeat):
    settings = Augmentation(flip="alternating", crop=2)
    numbers, view = apply(images, settings, epoch=1)
    seed = tf.constant([0, 1 + 4 * repeat])
    width = images.shape[2]
    varied = vary(numbers, settings, seed, repeat=tf.constant(repeat), width=width)
    found = augment(images, varied, settings).numpy()
    expected = view[:, :, ::-1] if repeat == 1 else view
    # Edges come from beyond the view.
    moves = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)] if repeat else [(0, 0)]
    for one, other in zip(found, expected, strict=True):
        moved = (np.roll(other, move, axis=(0, 1))[1:-1, 1:-1] for move in moves)
        assert any(np.array_equal(one[1:-1, 1:-1], each) for each in moved)
    assert repeat == 0 or (found != expected).any()


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(flip="random", crop=0, cutout=3),
        Augmentation(flip="random", crop=0, shift=0.2, rotation=20, cutout=3, cutmix=0.5),
    ],
)
def test_all_of_a_repeated_view_is_mirrored(images, settings):
    """The teacher has judged the view: with other holes and angles its answer would be another."""
    numbers, others = draw(len(images), settings, tf.constant([0, 0])), tf.reverse(images, [0])
    view = augment(images, numbers, settings, others).numpy()
    width = images.shape[2]
    once = vary(numbers, settings, tf.constant([0, 4]), repeat=tf.constant(1), width=width)
    mirrored = augment(images, once, settings, others).numpy()
    np.testing.assert_allclose(mirrored, view[:, :, ::-1], atol=0.01)


def test_what_settings_leave_alone_is_not_varied(images):
    numbers = draw(len(images), NOTHING, tf.constant([0, 1]))
    varied = vary(numbers, NOTHING, tf.constant([0, 5]), repeat=tf.constant(1), width=32)
    np.testing.assert_array_equal(augment(images, varied, NOTHING), images)


def test_cutmix_pastes_a_part_of_another_image(images):
    settings = Augmentation(flip="none", crop=0, cutmix=0.5)
    black, white = tf.zeros_like(images), tf.fill(images.shape, tf.constant(255, tf.uint8))
    numbers = draw(len(images), settings, tf.constant([0, 0]))
    out = augment(black, numbers, settings, white).numpy()
    assert set(np.unique(out)) == {0, 255}
    shares = blend(np.zeros((len(images), 1)), np.ones((len(images), 1)), numbers, images).numpy()
    np.testing.assert_allclose(shares[:, 0], out.mean(axis=(1, 2, 3)) / 255, atol=1e-6)
    assert 0.25 < (shares > 0).mean() < 0.75
    for mask in out[..., 0] > 0:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        np.testing.assert_array_equal(mask, np.outer(rows, columns))
        for side in (rows, columns):
            assert np.abs(np.diff(side, prepend=False, append=False)).sum() <= 2  # in one piece


def test_parts_are_of_all_images_and_areas(images):
    numbers = draw(4000, Augmentation(cutmix=1.0), tf.constant([0, 0]))
    _, count = np.unique(numbers.other, return_counts=True)
    assert len(count) > 2400  # 63 % are expected
    areas = numbers.part.numpy()[:, 2] ** 2
    assert np.quantile(areas, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.04)
    assert not draw(4000, Augmentation(), tf.constant([0, 0])).part.numpy()[:, 2].any()


def test_mixup_blends_images_and_targets_alike(images):
    pixels, targets = tf.cast(images, tf.float32), tf.eye(len(images))
    mixed, blended = mix_up(pixels, targets, 0.4, tf.constant([1, 2]))
    ratio = blended.numpy()[0, 0]
    assert 0 < ratio < 1
    np.testing.assert_allclose(blended.numpy().sum(axis=1), 1, rtol=1e-6)
    expected = ratio * pixels + (1 - ratio) * tf.roll(pixels, 1, axis=0)
    np.testing.assert_allclose(mixed, expected, atol=1e-3)
