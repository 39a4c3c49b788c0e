import dataclasses

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress.calibration import calibration_images, outliers, require_count
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data import Split


def with_training(digits, chosen):
    train = Split(digits.train.images[chosen], digits.train.labels[chosen])
    return dataclasses.replace(digits, train=train)


def test_images_are_stratified_and_from_training(digits):
    images = calibration_images(digits, 100)
    assert len(images) == 100
    known = {
        image.tobytes(): label
        for image, label in zip(digits.train.images, digits.train.labels, strict=True)
    }
    labels = [known[image.tobytes()] for image in images]
    assert np.bincount(labels).tolist() == [10] * 10


def test_too_few_training_images_are_refused(digits):
    with pytest.raises(EdgecifarError, match="9 training images are too few to calibrate"):
        calibration_images(with_training(digits, np.arange(9)), 100)


def test_images_of_one_class_are_refused(digits):
    ones = np.flatnonzero(digits.train.labels == 1)
    with pytest.raises(EdgecifarError, match="all training images are of the class 1: int8 needs"):
        calibration_images(with_training(digits, ones), 100)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (9, "9 calibration images are too few for 10 classes: give 10 or more"),
        (10**6, "more than there are for training: give at most"),
    ],
)
def test_a_count_out_of_reach_is_refused(digits, count, message):
    with pytest.raises(EdgecifarError, match=message):
        require_count(digits, count)


@pytest.fixture
def spiky():
    """A net that answers the brightest pixels a three hundred times as loudly as all others."""
    pixels = keras.Input((16, 16, 3))
    loud = keras.layers.Conv2D(2, 1, name="loud")
    values = keras.layers.ReLU(name="relu")(loud(pixels))
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D(name="pool")(values))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[0, 0, 0] = (1, 300)
    loud.set_weights([kernel, np.array([2, -600], np.float32)])  # the second from 2.0 on
    return model


def pictures():
    return np.random.default_rng(0).integers(0, 200, (50, 16, 16, 3), np.uint8)


def test_a_range_that_a_few_values_set_is_found_by_layer(spiky):
    images = pictures()
    assert outliers(spiky, images, ["loud", "relu", "pool"]) == []
    images[[3, 20, 40], 5, 5] = 255
    (found,) = outliers(spiky, images, ["relu", "pool"])
    assert (found.layer, found.low, found.usual_low) == ("relu", 0, 0)
    assert found.high == pytest.approx(300 * (135 / 64 - 2), rel=1e-3)
    assert found.usual_high == pytest.approx(2 + 135 / 64)  # of the other filter
    assert found.warning.startswith("layer relu: a handful of values set its range (0 to 32.8, all")
    assert found.warning.endswith("use ReLU6 there, or give --keep-float relu")


def test_what_many_images_reach_is_no_outlier(spiky):
    images = pictures()
    images[:, 5, 5] = 255
    assert outliers(spiky, images, ["relu"]) == []


def test_a_trained_net_has_none(digits, digits_run):
    model = digits_run.load_model()
    names = [layer.name for layer in model.layers[1:-1]]
    assert outliers(model, calibration_images(digits, 50), names) == []
