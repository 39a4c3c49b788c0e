"""Files of Keras 3, which comes with TensorFlow: taken over, or refused with the way out."""

import keras as keras3
import numpy as np
import pytest
from keras import layers

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt import keras3 as translation
from edgecifar.train.adopt.files import read_model

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
IMAGES = np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype(np.float32)
WAY_OUT = "can't be taken over to Keras 2 .*: save its weights with .* build it again with tf_keras"


def saved(path, *inner):
    model = keras3.Sequential([keras3.Input((12, 12, 3)), *inner, layers.Flatten()])
    model.save(path)
    return path


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_known_layers_are_taken_over(tmp_path, name):
    keras3.utils.set_random_seed(0)
    inputs = keras3.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.LeakyReLU(negative_slope=0.3)(x)
    inner = keras3.Sequential([layers.DepthwiseConv2D(3, padding="same"), layers.ReLU(6)])
    ends = keras3.Input((12, 12, 4))
    twice = keras3.Model(ends, layers.ReLU()(layers.Conv2D(4, 1)(ends)))
    x = layers.Concatenate()([inner(x), layers.Add()([twice(x), twice(twice(x))])])
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = keras3.Model(inputs, layers.Dense(5, activation="softmax")(x))
    drawn = np.random.default_rng(1)
    model.get_layer("norm").set_weights([drawn.uniform(0.5, 1, 4) for _ in range(4)])
    model.save(tmp_path / name)
    ours = read_model(tmp_path / name)
    assert type(ours).__module__.startswith("tf_keras")
    np.testing.assert_allclose(
        ours.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5
    )


@pytest.mark.parametrize(
    "layer",
    [
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomContrast(0.1),
        layers.RandomBrightness(0.1),
        layers.Resizing(8, 8),
        layers.CenterCrop(8, 8),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_prepare_images_are_taken_over(tmp_path, layer):
    """As Keras' own tutorials put them ahead of a network."""
    path = saved(tmp_path / "net.keras", layer)
    expected = keras3.saving.load_model(path).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(read_model(path).predict(IMAGES, verbose=0), expected, atol=1e-5)


def refused(path, message):
    with pytest.raises(EdgecifarError, match=message) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)


def test_what_keras_2_does_not_have_comes_with_the_way_out(tmp_path):
    path = saved(tmp_path / "rms.keras", layers.RMSNormalization(name="rms"))
    refused(path, r"layer rms \(RMSNormalization\) is unknown to Keras 2")
    refused(path, WAY_OUT)
    inputs = keras3.Input((12, 12, 3))
    keras3.Model(inputs, layers.Flatten()(255 / inputs)).save(tmp_path / "operation.keras")
    refused(tmp_path / "operation.keras", "is an operation, not a layer")
    x = layers.Reshape((36, 12))(inputs)
    x = layers.MultiHeadAttention(2, 4, name="heads")(x, x)
    keras3.Model(inputs, layers.Flatten()(x)).save(tmp_path / "attention.keras")
    refused(tmp_path / "attention.keras", "layer heads is called with 2 arguments, not one")


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_code_is_not_run(tmp_path, name):
    path = saved(tmp_path / name, layers.TimeDistributed(layers.Lambda(lambda x: x, name="odd")))
    refused(path, r"layer odd of .* \(Lambda\) holds Python code, which isn't run")


def test_other_outputs_are_noticed(tmp_path, monkeypatch):
    path = saved(tmp_path / "net.keras", layers.LeakyReLU(negative_slope=0.5))
    monkeypatch.setattr(
        translation, "_RENAMED", {("InputLayer", "batch_shape"): "batch_input_shape"}
    )
    monkeypatch.setattr(translation, "_settings", forgetful(translation._settings))
    with pytest.raises(EdgecifarError, match=r"its outputs differ by 0\.\d+ of the largest: find"):
        read_model(path)


def forgetful(settings):
    """Return the translation of a layer's settings that loses one."""

    def translate(kind, config):
        return settings(kind, {key: value for key, value in config.items() if "slope" not in key})

    return translate


def test_a_function_that_is_another_in_keras_2_is_named(tmp_path):
    """Built again in Keras 2, as the way out has it elsewhere, it would be another network."""
    path = saved(
        tmp_path / "net.keras", layers.Conv2D(2, 3, activation="hard_sigmoid", name="gate")
    )
    with pytest.raises(EdgecifarError, match=r"layer gate has hard_sigmoid, .*: put sigmoid"):
        read_model(path)


def test_a_layer_may_be_called_as_a_function(tmp_path):
    path = saved(tmp_path / "net.keras", layers.ReLU(6.0, name="hard_sigmoid"))
    assert read_model(path).layers[-2].name == "hard_sigmoid"


def test_networks_that_take_pixels_are_compared_on_pixels(tmp_path, monkeypatch):
    """To which noise of ones and zeros is black."""
    monkeypatch.setattr(translation, "_OTHERWISE", {})
    gate = layers.Conv2D(2, 3, activation="hard_sigmoid", kernel_initializer="ones")
    path = saved(tmp_path / "net.keras", layers.Rescaling(1e-4), gate)
    with pytest.raises(EdgecifarError, match=r"its outputs differ by .*: find the layer"):
        read_model(path)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_networks_that_were_trained_in_mixed_precision_are_compared_in_float32(tmp_path, policy):
    keras3.utils.set_random_seed(0)
    inner = [layers.Conv2D(8, 3, dtype=policy), layers.ReLU(dtype=policy), layers.Conv2D(8, 3)]
    ours = read_model(saved(tmp_path / "net.keras", *inner))
    assert {layer.dtype for layer in ours.layers} == {"float32"}


def test_networks_that_take_whole_numbers_are_compared_on_those(tmp_path):
    pixels = keras3.Input((12, 12, 3), dtype="uint8")
    x = layers.Flatten()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(pixels)))
    keras3.Model(pixels, x).save(tmp_path / "net.keras")
    assert read_model(tmp_path / "net.keras").output_shape == (None, 400)


def test_arithmetic_becomes_layers(tmp_path):
    """As in preprocessing inside a model, and in MobileNetV3's gates."""
    keras3.utils.set_random_seed(0)
    pixels = keras3.Input((12, 12, 3))
    x = layers.Conv2D(4, 3)(1 - (pixels / 64 - 0.5) * 2)
    x = x * (layers.ReLU(6.0)(x + 3.0) * (1 / 6))
    keras3.Model(pixels, layers.Flatten()(x - layers.Conv2D(4, 1)(x))).save(tmp_path / "net.keras")
    kinds = [type(layer).__name__ for layer in read_model(tmp_path / "net.keras").layers]
    assert kinds.count("Rescaling") == 6
    assert {"Multiply", "Subtract"} < {*kinds}
