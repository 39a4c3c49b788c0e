from dataclasses import replace

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.train import models
from edgecifar.train.pipeline import (
    image_feed,
    images_at_once,
    training_batches,
)
from edgecifar.train.settings import Augmentation, Training


@pytest.mark.parametrize("views", [None, 1])
def test_a_pasted_part_brings_its_share_of_the_label(small_digits, views):
    """Every image has one brightness, which tells its class, wherever a part of it comes to."""
    plain = np.broadcast_to(
        20 * small_digits.train.labels.astype(np.uint8)[:, None, None, None],
        small_digits.train.images.shape,
    )
    split = replace(small_digits.train, images=plain)
    settings = Training(epochs=2, batch_size=64, augment=Augmentation(cutmix=0.7, crop=0))
    mixed = 0
    for images, targets in training_batches(split, 10, settings, seed=0, views=views):
        classes = np.rint((images.numpy() * 64 + 120) / 20)[..., 0].astype(int)
        shares = np.stack([(classes == number).mean(axis=(1, 2)) for number in range(10)], axis=1)
        np.testing.assert_allclose(targets, shares, atol=1e-6)
        mixed += np.sum(shares.max(axis=1) < 1)
    assert mixed > 50


@pytest.mark.parametrize(("size", "count"), [(32, 500), (96, 500), (224, 91), (5000, 1)])
def test_evaluated_batches_fit_into_memory(size, count):
    pixels = keras.Input((size, size, 3))
    assert images_at_once(keras.Model(pixels, keras.layers.Flatten()(pixels))) == count


def test_a_network_that_enlarges_images_takes_fewer_at_once():
    build = models.find("efficientnet_lite0").build
    assert images_at_once(build((32, 32), 10, backbone_size=96)) == 500
    assert images_at_once(build((32, 32), 10, backbone_size=224)) == 91


def test_validation_takes_as_many_as_the_network_can(digits):
    pixels = keras.Input((32, 32, 3))
    enlarging = keras.Model(pixels, keras.layers.UpSampling2D(20)(pixels))
    small = keras.Model(pixels, keras.layers.Flatten()(pixels))
    feed = image_feed(digits, Training(batch_size=32), seed=0)
    few, all_of_them = (len(next(iter(feed.validation(m)))[0]) for m in (enlarging, small))
    assert few == 500 * 96 * 96 // 640**2
    assert all_of_them == len(digits.validation.labels)
