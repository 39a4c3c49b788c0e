"""A pruned model must compute what the whole one computes with the removed filters zeroed."""

import numpy as np
import pytest

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.shrink import shrink
from edgecifar.train import models

TOLERANCE = 2e-5  # float32 sums of a few thousand terms in another order


def _resnet8():
    return models.find("resnet8").build((32, 32), 10)


def _flatten_to_dense():
    return models.find("baseline").build((32, 32), 10)


def _depthwise():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((24, 24, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 3, strides=2)(inputs)))
    for filters in (16, 24):
        shortcut = x
        x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)
        x = layers.BatchNormalization(scale=False)(x)
        x = layers.Conv2D(filters, 1, use_bias=False)(layers.LeakyReLU()(x))
        x = layers.BatchNormalization(center=False)(x)
        if filters == shortcut.shape[-1]:
            x = layers.Add()([x, shortcut])
    x = layers.SeparableConv2D(32, 3, depth_multiplier=2, activation="swish")(x)
    x = layers.GlobalMaxPooling2D()(layers.PReLU(shared_axes=[1, 2])(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def _concatenation():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for _ in range(2):  # each layer reads all before it
        new = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.Concatenate()([x, new])
    wide = layers.Conv2D(32, 1)(x)
    x = layers.Add()([x, wide])  # a sum with a concatenation ties filters of four layers
    x = layers.AveragePooling2D()(layers.ReLU()(x))
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def _another_size():
    """Not square, seven classes, squeeze and excitation, grouped convolution, Sequential head."""
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((20, 28, 1))
    x = layers.Conv2D(24, 5, strides=2, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    gate = layers.Reshape((1, 1, 24))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(8, 1, activation="relu")(gate)
    gate = layers.Conv2D(24, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 3, groups=4, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 3, activation="elu")(layers.ZeroPadding2D()(x))
    x = layers.Reshape((-1,))(layers.MaxPooling2D()(x))
    x = layers.Dense(16, activation="sigmoid")(layers.Dense(24, activation="tanh")(x))
    return keras.Model(inputs, layers.Softmax()(layers.Dense(7)(x)))


def _sequential():
    import tf_keras as keras
    from tf_keras import layers

    return keras.Sequential(
        [
            layers.Conv2D(16, 3, input_shape=(12, 12, 3)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dense(4, activation="softmax"),
        ]
    )


NETWORKS = (
    _resnet8,
    _flatten_to_dense,
    _depthwise,
    _concatenation,
    _another_size,
    _sequential,
)


@pytest.mark.parametrize("build", NETWORKS)
def test_pruned_equals_zeroed(build):
    rng = np.random.default_rng(1)
    model = build()
    _scramble(model, rng)
    graph = trace(model)
    kept = graph.all_kept()
    for group in graph.groups:
        gone = rng.choice(group.units, len(group.units) // 2, replace=False)
        kept[gone] = False
    smaller = shrink(model, graph, kept)
    assert smaller.count_params() < 0.6 * model.count_params()
    images = rng.normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    whole = model(images).numpy()
    _zero(model, graph, kept)
    zeroed = model(images).numpy()
    assert np.abs(zeroed - smaller(images).numpy()).max() < TOLERANCE
    assert np.abs(zeroed - whole).max() > 100 * TOLERANCE  # what went did matter


def test_keeping_everything_copies_the_model():
    model = _depthwise()
    _scramble(model, np.random.default_rng(2))
    graph = trace(model)
    copy = shrink(model, graph, graph.all_kept())
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    for mine, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    copy.layers[1].set_weights([np.zeros_like(w) for w in copy.layers[1].get_weights()])
    assert np.any(model.layers[1].get_weights()[0])  # nothing is shared


def _scramble(model, rng):
    """Give every weight a random value, so that no zero bias or unit scale hides a mistake."""
    for variable in model.weights:
        fan_in = max(1, int(np.prod(variable.shape[:-1])))
        values = rng.normal(size=variable.shape) / np.sqrt(fan_in)
        variable.assign(np.abs(values) + 0.1 if "variance" in variable.name else values)


def _zero(model, graph, kept):
    """Zero the removed filters where they are made, and what batch norm would add to them."""
    from tf_keras import layers

    for layer in model.layers:
        if not layer.weights:
            continue
        gone = ~kept[graph.layers[layer.name].outputs]
        for variable in layer.weights:
            value = variable.numpy()
            name = variable.name.split("/")[-1].split(":")[0]
            if name == "depthwise_kernel" and isinstance(layer, layers.DepthwiseConv2D):
                value.reshape(*value.shape[:2], -1)[..., gone] = 0
            elif name in ("kernel", "pointwise_kernel", "bias", "gamma", "beta", "moving_mean"):
                value[..., gone] = 0
            variable.assign(value)
