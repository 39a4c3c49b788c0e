"""Fixtures of this package's tests."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.quantize import Quantization, quantize
from edgecifar.compress.selective import Ranged, ranged
from edgecifar.compress.tflite import to_tflite
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


@pytest.fixture(scope="session")
def few(digits):
    """The digits, but for training images, of which there are 256."""
    return replace(digits, train=Split(digits.train.images[:256], digits.train.labels[:256]))


@pytest.fixture(scope="session")
def calibration(digits):
    """100 training images."""
    return calibration_images(digits, 100)


@pytest.fixture(scope="session")
def payloads(digits_run, calibration, once):
    """Resnet8 on the digits as TFLite files, by what they compute in."""

    def convert(_):
        kinds, model = ("float32", "int8", "dynamic"), digits_run.load_model()
        return {kind: to_tflite(model, kind, calibration) for kind in kinds}

    return once("payloads", convert)


@pytest.fixture(scope="session")
def resnet8_ranged(digits_run, calibration, once):
    """The same net, converted for the choice of layers that stay in float."""
    return once("ranged", lambda _: ranged(digits_run.load_model(), calibration))


@pytest.fixture(scope="session")
def neighbours(digits_run):
    """The names of the two convolutions within its first residual block."""
    layers = digits_run.load_model().layers
    return tuple(each.name for each in layers if type(each).__name__ == "Conv2D")[1:3]


@pytest.fixture(scope="session")
def partly_float_run(digits, digits_run, neighbours, made_once):
    """The same net fine-tuned with quantization in the loop, but for these two."""
    recipe = Quantization(epochs=1, keep_float=neighbours)
    name = recipe.run_name(digits_run.name)
    return made_once(name, lambda out: quantize(digits_run, digits, recipe, out))


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
