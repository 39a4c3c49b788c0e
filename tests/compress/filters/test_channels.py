import numpy as np
import pytest

from edgecifar.compress.filters.channels import FIXED, trace
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models


@pytest.fixture(scope="module")
def resnet8():
    return models.find("resnet8").build((32, 32), 10)


def _groups(model, **options):
    names = [layer.name for layer in model.layers if layer.name.startswith(("conv", "dense"))]
    graph = trace(model, **options)
    return {
        tuple(names.index(name) for name in group.makers): len(group.units)
        for group in graph.groups
    }


def test_residual_additions_tie_their_branches(resnet8):
    # Stem and first block's end; the inner convolutions alone; a shortcut with its block's end.
    assert sorted(_groups(resnet8).values()) == [16, 16, 32, 32, 64, 64]
    sizes = [len(makers) for makers in _groups(resnet8)]
    assert sorted(sizes) == [1, 1, 1, 2, 2, 2]


def test_pixels_and_classes_are_fixed(resnet8):
    graph = trace(resnet8)
    convolution = next(layer.name for layer in resnet8.layers if layer.name.startswith("conv"))
    last = next(layer.name for layer in resnet8.layers if layer.name.startswith("dense"))
    assert np.all(graph.layers[convolution].inputs == FIXED)
    assert np.all(graph.layers[last].outputs == FIXED)


def test_kept_layers_lose_nothing_and_hold_what_is_tied_to_them(resnet8):
    stem = next(layer.name for layer in resnet8.layers if layer.name.startswith("conv"))
    assert sorted(_groups(resnet8, keep=(stem,)).values()) == [16, 32, 32, 64, 64]


def test_unknown_layer_is_answered_with_the_nearest(resnet8):
    stem = next(layer.name for layer in resnet8.layers if layer.name.startswith("conv"))
    with pytest.raises(EdgecifarError, match=f"did you mean {stem}"):
        trace(resnet8, keep=(f"{stem}x",))


def test_a_filter_that_is_not_silent_when_zeroed_stays():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((8, 8, 3))
    loud = layers.Conv2D(16, 3, activation="sigmoid")(inputs)  # half when its filter is zero
    outputs = layers.Dense(3)(layers.Flatten()(layers.Conv2D(16, 3, name="quiet")(loud)))
    graph = trace(keras.Model(inputs, outputs))
    assert [group.makers for group in graph.groups] == [("quiet",)]


def test_a_shared_layer_ties_its_inputs():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((8, 8, 3))
    shared = layers.Conv2D(8, 1, name="shared")
    left, right = (layers.Conv2D(16, 3, name=name)(inputs) for name in ("left", "right"))
    relu = layers.ReLU(name="relu")  # shared too, but without weights it ties nothing
    x = layers.Add()([shared(relu(left)), shared(right)])
    x = layers.Concatenate()([x, relu(x)])
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    groups = {group.makers: len(group.units) for group in trace(model).groups}
    assert groups == {("left", "right"): 16, ("shared",): 8}


def test_one_channel_for_all_holds_a_sum_but_not_a_product():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, name="wide")(inputs)
    mask = layers.Conv2D(1, 3, activation="sigmoid", name="mask")(inputs)
    for merge, expected in ((layers.Multiply(), [("wide",)]), (layers.Add(), [])):
        y = layers.Dense(2)(layers.GlobalAveragePooling2D()(merge([x, mask])))
        assert [g.makers for g in trace(keras.Model(inputs, y)).groups] == expected
