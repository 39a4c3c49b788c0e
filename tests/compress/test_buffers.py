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
    mask, dense = np.ones(432), np.ones(64)
    mask[:216] = 0
    require_zeros(files["int8"], [mask, dense], name="net.tflite")
    mask[:300] = 0
    with pytest.raises(EdgecifarError, match=r"net\.tflite holds 2\d\d zeros in .* 432 .* 300"):
        require_zeros(files["int8"], [mask], name="net.tflite")


def test_zeros_of_one_kernel_do_not_make_up_for_another(files):
    mask = np.ones(64)
    mask[:32] = 0  # of the classifier, which has none; the other kernel has over 200
    with pytest.raises(EdgecifarError, match=r"zeros in a kernel of 64 weights, its model has 32"):
        require_zeros(files["int8"], [mask], name="net.tflite")


def test_a_kernel_that_is_not_there_has_no_zeros(files):
    with pytest.raises(EdgecifarError, match=r"holds 0 zeros in a kernel of 100 weights"):
        require_zeros(files["int8"], [np.zeros(100)], name="net.tflite")
