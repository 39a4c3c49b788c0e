import pytest
import tf_keras as keras
from tf_keras import layers

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.costs import CostModel
from edgecifar.train.macs import count_macs


def test_each_kind_of_layer():
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(pixels)  # 6 x 6 places, 27 weights for each of 4 channels
    x = layers.DepthwiseConv2D(3)(x)  # 4 x 4, 9 for each
    x = layers.SeparableConv2D(5, 3)(x)  # 2 x 2, 9 for each of 4, then 4 for each of 5
    x = layers.Dense(7)(layers.Flatten()(x))
    assert count_macs(keras.Model(pixels, x)) == 36 * 108 + 16 * 36 + 4 * (36 + 20) + 20 * 7


@pytest.mark.parametrize("pooled", [False, True])
def test_a_layer_counts_as_often_as_it_is_called(pooled):
    """At another size too, where Keras knows no one shape of its output."""
    pixels = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same")
    x = shared(pixels)
    x = layers.MaxPooling2D()(x) if pooled else x
    model = keras.Model(pixels, layers.Flatten()(shared(x)))
    expected = (64 + (16 if pooled else 64)) * 9 * 4 * 4
    assert count_macs(model) == expected
    graph = trace(model)
    assert CostModel(model, graph)(graph.all_kept()).macs == expected


def test_calls_of_another_model_do_not_count():
    pixels = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same")
    model = keras.Model(pixels, shared(pixels))
    keras.Model(pixels, shared(shared(pixels)))
    assert count_macs(model) == 64 * 9 * 4 * 4
