"""Rewritten models against what they were: the same outputs for the same raw pixels."""

import numpy as np
import pytest
import tf_keras as keras
from tf_keras import layers

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.copying import SHIFT
from edgecifar.train.adopt.leading import leading
from edgecifar.train.adopt.pixels import NAMED
from edgecifar.train.adopt.rewrite import flatten, for_our_pixels, with_probabilities
from edgecifar.train.normalisation import normalise
from edgecifar.train.stem import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3)).astype(np.float32)


def stack(*inner, size=12):
    """Return a net whose weights are all drawn, those of normalisation too."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((size, size, 3)), *inner])
    model.set_weights([np.random.default_rng(1).uniform(0.1, 1, w.shape) for w in model.weights])
    return model


def head():
    return layers.GlobalAveragePooling2D(), layers.Dense(4)


def rewritten(model, takes):
    flat = flatten(model, (12, 12))
    ahead = leading(flat)
    return for_our_pixels(flat, ahead, ahead.after(takes)), ahead


def agree(ours, model, takes, pixels=PIXELS):
    expected = model(takes(pixels)).numpy()
    found = ours(normalise(pixels)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_every_scale_of_pixels(name, padding):
    model = stack(layers.Conv2D(8, 3, padding=padding), layers.ReLU(), *head())
    ours, _ = rewritten(model, NAMED[name])
    grey = padding == "same" and name in ("-1..1", "imagenet", "caffe")  # see FRAME_LEVELS
    if not grey:
        agree(ours, model, NAMED[name])
    dark = padding == "same" and name in ("0..1", "0..255")
    assert (SHIFT in [layer.name for layer in ours.layers]) == dark


@pytest.mark.parametrize("name", ["-1..1", "imagenet", "caffe"])
def test_zero_padding_keeps_its_meaning_where_that_is_asked_for(name):
    model = stack(layers.Conv2D(8, 3, padding="same"), layers.ReLU(), *head())
    ahead = leading(model)
    ours = for_our_pixels(model, ahead, ahead.after(NAMED[name]), frame_levels=0)
    agree(ours, model, NAMED[name])


@pytest.mark.parametrize(
    "first",
    [
        (layers.Rescaling(1 / 127.5, -1.0),),
        (layers.Rescaling(1 / 255), layers.Normalization(mean=[0.4, 0.5, 0.6], variance=0.04)),
        (layers.BatchNormalization(),),
        (layers.RandomFlip(), layers.Rescaling([1 / 255, 1 / 128, 1 / 64], [0.0, -1.0, 2.0])),
    ],
)
def test_layers_that_prepare_pixels_are_folded(first):
    model = stack(*first, layers.Conv2D(8, 3), *head())
    ours, ahead = rewritten(model, NAMED["0..255"])
    assert len(ahead.names) == len(first)
    agree(ours, model, NAMED["0..255"])
    assert [type(layer).__name__ for layer in ours.layers[1:]] == [
        "Conv2D",
        "GlobalAveragePooling2D",
        "Dense",
    ]


def test_operators_ahead_of_the_first_layer_are_folded():
    x = inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3)(x[..., ::-1] / 127.5 - 1.0)  # as preprocess_input writes it
    model = keras.Model(inputs, layers.Flatten()(x))
    ours, ahead = rewritten(model, NAMED["0..255"])
    assert len(ahead.names) == 3
    agree(ours, model, NAMED["0..255"])


def test_a_relu_or_a_mixture_of_colours_is_no_preparation():
    assert leading(stack(layers.ReLU(), *head())).names == ()
    assert leading(stack(layers.Conv2D(3, 1), *head())).names == ()


@pytest.mark.parametrize(
    "first",
    [
        (layers.ZeroPadding2D(1), layers.Conv2D(8, 3)),
        (layers.Conv2D(8, 3, padding="same", use_bias=False),),
        (layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization()),
        (layers.Conv2D(8, 3, use_bias=False, activation="relu"), layers.BatchNormalization()),
        (layers.DepthwiseConv2D(3, padding="same"),),
        (layers.Flatten(), layers.Reshape((12, 12, 3))),
        (layers.UpSampling2D(2), layers.Conv2D(8, 3, padding="same")),
    ],
)
def test_networks_that_begin_otherwise(first):
    model = stack(*first, *head())
    ours, _ = rewritten(model, NAMED["0..1"])
    agree(ours, model, NAMED["0..1"])


def test_two_convolutions_that_read_the_pixels():
    inputs = keras.Input((12, 12, 3))
    both = [layers.Conv2D(4, 3, padding="same")(inputs) for _ in range(2)]
    model = keras.Model(inputs, layers.Flatten()(layers.Add()(both)))
    ours, _ = rewritten(model, NAMED["0..1"])
    agree(ours, model, NAMED["0..1"])


def test_blue_first_needs_a_convolution():
    with pytest.raises(EdgecifarError, match="blue first"):
        rewritten(stack(layers.MaxPooling2D(), *head()), NAMED["caffe"])


def test_preparations_follow_each_other():
    given = Preprocessing((10.0, 20.0, 30.0), (2.0, 4.0, 8.0), bgr=True)
    model = stack(layers.Rescaling(0.5, 3.0), layers.Conv2D(8, 3), *head())
    ours, _ = rewritten(model, given)
    agree(ours, model, given)


def test_models_inside_are_laid_flat_and_shared_layers_stay_shared():
    inner = keras.Sequential([keras.Input((10, 10, 8)), layers.Conv2D(8, 1, name="conv")])
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.Add()([inner(x), inner(layers.ReLU()(x))])
    model = keras.Model(inputs, layers.Flatten()(x))
    flat = flatten(model, (12, 12))
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert flat.count_params() == model.count_params()
    np.testing.assert_allclose(flat(PIXELS), model(PIXELS), rtol=1e-4, atol=1e-2)


def test_of_a_layer_without_weights_each_call_has_its_own():
    """What leaves it has other ranges there; a reused ReLU would tie all that reads it together."""
    inputs, relu, conv = keras.Input((12, 12, 3)), layers.ReLU(name="relu"), layers.Conv2D(3, 1)
    x = relu(conv(relu(conv(inputs))))
    model = keras.Model(inputs, layers.Flatten()(x))
    flat = flatten(model, (12, 12))
    assert [layer.name for layer in flat.layers if "relu" in layer.name] == ["relu", "relu_"]
    assert flat.count_params() == model.count_params()
    np.testing.assert_allclose(flat(PIXELS), model(PIXELS), rtol=1e-4, atol=1e-2)


def test_attention_keeps_its_weights():
    """It is built by what it is called with, and not by a shape."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Reshape((36, 8))(layers.Conv2D(8, 3, strides=2, padding="same")(inputs))
    attention = layers.MultiHeadAttention(2, 4)
    model = keras.Model(inputs, layers.Flatten()(attention(attention(x, x), x)))
    flat = flatten(model, (12, 12))
    assert flat.count_params() == model.count_params()
    np.testing.assert_allclose(flat(PIXELS), model(PIXELS), rtol=1e-4, atol=1e-2)


def test_open_sizes_and_precision_are_fixed():
    policy = keras.mixed_precision.Policy("mixed_float16")
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, dtype=policy)])
    model.add(layers.GlobalAveragePooling2D())
    flat = flatten(model, (20, 28))
    assert flat.input_shape == (None, 20, 28, 3)
    assert {layer.compute_dtype for layer in flat.layers} == {"float32"}


def test_a_softmax_is_added_to_logits_alone():
    model = stack(layers.Conv2D(8, 3), *head())
    outputs = model(PIXELS).numpy()
    ended, appended = with_probabilities(model, outputs)
    assert appended
    np.testing.assert_allclose(ended(PIXELS).numpy().sum(axis=1), 1, atol=1e-5)
    again = with_probabilities(ended, ended(PIXELS).numpy())
    assert again == (ended, False)
    named = stack(layers.Conv2D(8, 3, name="probabilities"), *head())
    assert with_probabilities(named, outputs)[0].layers[-1].name == "probabilities_"
    sigmoid = stack(layers.Flatten(), layers.Dense(4, activation="sigmoid", name="last"))
    with pytest.raises(EdgecifarError, match=r"ends in sigmoid \(layer last\)"):
        with_probabilities(sigmoid, sigmoid(PIXELS).numpy())


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((12, 12, 3), (32, 32), "12x12 pixels, these are 32x32: --image-size 12 scales them"),
        ((12, 16, 3), (32, 32), "--image-size 12x16"),
        ((12, 12, 1), (12, 12), r"takes \(12, 12, 1\): it must take images"),
        ((3, 12, 12), (12, 12), "channels last"),
    ],
)
def test_other_images_are_refused(shape, size, message):
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(EdgecifarError, match=message):
        flatten(model, size)


def test_several_inputs_outputs_and_subclassed_models_are_refused():
    class Own(keras.Model):
        pass

    first, second = keras.Input((12, 12, 3)), keras.Input((12, 12, 3))
    for model, message in (
        (keras.Model([first, second], layers.Add()([first, second])), "a model with 2 inputs"),
        (keras.Model(first, [first, layers.ReLU()(first)]), "a model with 2 outputs"),
        (Own(), "subclassed"),
    ):
        with pytest.raises(EdgecifarError, match=message):
            flatten(model, (12, 12))
