import numpy as np
import pytest

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.costs import CostModel
from edgecifar.compress.filters.shrink import shrink
from edgecifar.train.macs import count_macs


def _network():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((16, 12, 3))
    x = layers.Conv2D(16, 3, strides=2, use_bias=False)(inputs)
    x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization(scale=False)(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.SeparableConv2D(24, 3, padding="same", depth_multiplier=2)(x)
    x = layers.Conv2D(8, 1, groups=4)(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_those_of_the_model_that_is_built(seed):
    rng = np.random.default_rng(seed)
    model = _network()
    graph = trace(model)
    kept = graph.all_kept()
    for group in graph.groups if seed else ():
        kept[rng.choice(group.units, rng.integers(1, len(group.units)), replace=False)] = False
    smaller = shrink(model, graph, kept)
    cost = CostModel(model, graph)(kept)
    assert (cost.macs, cost.params) == (count_macs(smaller), smaller.count_params())
