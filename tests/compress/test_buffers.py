import numpy as np
import pytest

from edgecifar.compress.buffers import require_zeros, weights, zero_share
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture(scope="module")
def files():
    """The same net in three kinds of file; half of its first kernel's 432 weights are zero."""
    import tf_keras as keras
    from tf_keras import layers

    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Softmax()(layers.Dense(4)(x)))
    kernel = model.layers[1].kernel
    kernel.assign(kernel * (np.arange(432).reshape(kernel.shape) % 2))
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    return {kind: to_tflite(model, kind, images) for kind in ("float32", "float16", "int8")}


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_zeros_are_counted_in_what_the_file_holds(files, kind):
    found = weights(files[kind])
    assert sorted(kernel.size for kernel in found) == [64, 432]
    convolution = max(found, key=lambda kernel: kernel.size)
    assert 216 <= convolution.zeros < 230  # int8 rounds a few more to zero
    assert zero_share(files[kind]) == pytest.approx(216 / 496, abs=0.03)


def test_fewer_zeros_than_the_model_has_are_an_error(files):
    require_zeros(files["int8"], 216, name="net.tflite")
    with pytest.raises(EdgecifarError, match=r"net\.tflite holds 2\d\d zero weights, .* 300"):
        require_zeros(files["int8"], 300, name="net.tflite")
