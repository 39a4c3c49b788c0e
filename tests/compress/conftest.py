"""Fixtures of this package's tests."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.selective import Ranged, ranged
from edgecifar.train.data import Split
from edgecifar.train.run import Run


@pytest.fixture(autouse=True)
def names_from_the_start():
    """Layers that a test builds are called the same whichever tests came before."""
    keras.backend.reset_uids()


@pytest.fixture(scope="session")
def one_class(digits):
    """The digits, but for training images which are all ones."""
    ones = np.flatnonzero(digits.train.labels == 1)
    return replace(digits, train=Split(digits.train.images[ones], digits.train.labels[ones]))


@dataclass(frozen=True)
class Stretched:
    """A run whose net int8 ruins, and the two layers between which it does so."""

    run: Run
    layers: tuple[str, str]
    file: Ranged  # the net, converted


@pytest.fixture(scope="session")
def stretched(digits, digits_run, tmp_path_factory):
    """Resnet8 on the digits with one channel a thousand times as large as the others.

    A convolution's norm multiplies the channel and the next convolution divides it, so that in
    float nothing changes; in int8 all other channels between the two become zero.
    """
    run = Run(tmp_path_factory.mktemp("stretched") / "stretched")
    shutil.copytree(digits_run.path, run.path)
    model = run.load_model()
    first, second = [each for each in model.layers if type(each).__name__ == "Conv2D"][1:3]
    (norm,) = [node.layer for node in first.outbound_nodes]
    gamma, beta, *rest = norm.get_weights()
    gamma[0] *= 1000
    beta[0] *= 1000
    norm.set_weights([gamma, beta, *rest])
    kernel, bias = second.get_weights()
    kernel[:, :, 0] /= 1000
    second.set_weights([kernel, bias])
    run.save_model(model)
    run.update(name=run.name)
    file = ranged(model, calibration_images(digits, 50))
    return Stretched(run, (first.name, second.name), file)
