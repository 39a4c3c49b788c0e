import numpy as np
import pytest

from edgecifar.compress.masks import hold, require_held, zeros_of
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture
def sparse_model():
    import tf_keras as keras
    from tf_keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="pruned")(inputs)
    x = layers.SeparableConv2D(16, 3, name="separable")(layers.ReLU()(x))
    x = layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    model = keras.Model(inputs, layers.Softmax()(x))
    rng = np.random.default_rng(0)
    for variable in (
        model.get_layer("pruned").kernel,
        model.get_layer("separable").pointwise_kernel,
    ):
        variable.assign(variable * (rng.random(variable.shape) < 0.3))
    return model


def _zeros_in(model):
    return sum(int((mask == 0).sum()) for mask in zeros_of(model).values())


def _train(model, *, ema=None):
    rng = np.random.default_rng(1)
    model.compile("adam", "categorical_crossentropy")
    model.fit(
        rng.normal(size=(64, 8, 8, 3)).astype(np.float32),
        np.eye(3, dtype=np.float32)[rng.integers(0, 3, 64)],
        epochs=2,
        verbose=0,
        callbacks=[ema] if ema else [],
    )


def test_only_pruned_kernels_have_masks(sparse_model):
    masks = zeros_of(sparse_model)
    assert set(masks) == {("pruned", "kernel"), ("separable", "pointwise_kernel")}


def test_zeros_drift_unless_held(sparse_model):
    before = _zeros_in(sparse_model)
    _train(sparse_model)
    assert _zeros_in(sparse_model) < before / 2


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_held_zeros_survive_training_and_averaging(sparse_model, policy):
    from edgecifar.train.ema import WeightAverage
    from edgecifar.train.precision import recast

    before = zeros_of(sparse_model)
    kernel = sparse_model.get_layer("pruned").kernel.numpy()
    model = recast(sparse_model, policy)
    held = hold(model, before)
    average = WeightAverage(0.5)
    _train(model, ema=average)
    require_held(held)
    average.exchange()
    require_held(held)
    moved = model.get_layer("pruned").kernel.numpy()
    assert np.all(moved[kernel != 0] != kernel[kernel != 0])  # the others did train


def test_held_zeros_survive_quantization_in_the_loop(sparse_model):
    """A separable convolution too, which the toolkit splits in two under new names."""
    from edgecifar.compress.quantize import prepare

    images = np.random.default_rng(2).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    masks = zeros_of(sparse_model)
    prepared = prepare(sparse_model, images)
    held = hold(prepared, masks)
    _train(prepared)
    require_held(held)
    assert _zeros_in(prepared) >= _zeros_in(sparse_model)


@pytest.mark.parametrize("still", [True, False])
def test_a_frozen_layer_is_trained_in_a_wrapper_unless_it_is_held_still(still, monkeypatch):
    import tf_keras as keras
    from tf_keras import layers

    from edgecifar.compress import quantize
    from edgecifar.train.adopt.copying import SHIFT

    if not still:
        monkeypatch.setattr(quantize, "hold_still", lambda *_: None)
    inputs = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(1, trainable=False, name=SHIFT)(inputs)
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    images = np.random.default_rng(2).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    prepared = quantize.prepare(keras.Model(inputs, layers.Softmax()(x)), images)
    weights = {layer.name: layer.get_weights() for layer in prepared.layers}
    _train(prepared)
    moved = {
        layer.name.removeprefix("quant_")
        for layer in prepared.layers
        for before, after in zip(weights[layer.name], layer.get_weights(), strict=True)
        if before.ndim > 1 and np.any(before != after)  # kernels, and no ranges
    }
    assert (SHIFT in moved) != still
    assert "conv" in moved


def test_lost_zeros_and_lost_layers_are_named(sparse_model):
    masks = zeros_of(sparse_model)
    held = hold(sparse_model, masks)
    kernel = sparse_model.get_layer("pruned").kernel
    kernel.assign(kernel + 1)
    with pytest.raises(EdgecifarError, match="pruned weights of layer pruned are no longer zero"):
        require_held(held)
    with pytest.raises(EdgecifarError, match="the zeros of layer gone can't be kept"):
        hold(sparse_model, {("gone", "kernel"): np.zeros((2, 2), np.float32)})
