import numpy as np
import pytest

from edgecifar.runtime.encoding import pixel_writer, score_decoder
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import TensorSpec

PIXELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
OURS = {"input": {"encoding": "pixel-128"}}


def spec(dtype, scale=0.0, zero_point=0):
    return TensorSpec((1, *PIXELS.shape), np.dtype(dtype), scale, zero_point)


def written(tensor, metadata):
    """What an input tensor holds of PIXELS."""
    memory = np.zeros(tensor.shape, tensor.dtype)
    pixel_writer(memory, tensor, metadata)(PIXELS)
    return memory[0]


@pytest.mark.parametrize(
    ("tensor", "metadata"),
    [
        (spec("int8", 1 / 64, -8), OURS),
        (spec("int8", 1.0, -128), None),
        (spec("int8", 0.003921568859368563, -128), None),
        (spec("int8", 0.007843137718737125, -1), None),
        (spec("int8", 0.007843137718737125, 0), None),
        (spec("int8", 0.0078125, 0), None),
        (spec("int8", 1.0, -128), {"name": "without an encoding"}),
    ],
)
def test_int8_input_is_the_pixel_minus_128(tensor, metadata):
    encoded = written(tensor, metadata)
    assert encoded.dtype == np.int8
    assert np.array_equal(encoded, PIXELS.astype(int) - 128)


def test_foreign_int8_follows_its_own_scale():
    encoded = written(spec("int8", 2.0, -100), None)
    expected = np.clip(np.round(PIXELS / 2.0) - 100, -128, 127)
    assert np.array_equal(encoded, expected)


@pytest.mark.parametrize(
    "tensor",
    [spec("int8", 1 / 64, -8), spec("int8"), spec("int8", 0.5, 0), spec("int8", 2 / 255, -8)],
)
def test_foreign_int8_that_cannot_hold_pixels_is_refused(tensor):
    with pytest.raises(EdgecifarError, match="not pixels 0 to 255"):
        written(tensor, None)


def test_an_encoding_of_a_later_version_is_refused():
    with pytest.raises(EdgecifarError, match=r"'yuv'.*update"):
        written(spec("int8", 0.5, 3), {"input": {"encoding": "yuv"}})


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_other_inputs_take_plain_pixels(dtype):
    encoded = written(spec(dtype), None)
    assert encoded.dtype == dtype
    assert np.array_equal(encoded, PIXELS)


def test_int16_input_is_242_steps_a_pixel():
    """The largest whole number with which both ends of 0..255 fit around 120."""
    taken, metadata = spec("int16", 1 / (64 * 242)), {"input": {"encoding": "242*(pixel-120)"}}
    encoded = written(taken, metadata)
    assert encoded.dtype == np.int16
    assert np.array_equal(encoded, 242 * (PIXELS.astype(int) - 120))
    assert np.array_equal(encoded * taken.scale, (PIXELS - 120.0) / 64)
    with pytest.raises(EdgecifarError, match="int16"):
        written(taken, None)  # a foreign file doesn't say what it means


def test_int16_scores_become_probabilities():
    decode = score_decoder(TensorSpec((1, 2), np.dtype(np.int16), 1 / 32768, 0), {"name": "ours"})
    found = decode(np.array([[8192, 24576]], np.int16))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.25, 0.75]]


def test_unknown_input_type_is_refused():
    with pytest.raises(EdgecifarError, match="int32"):
        written(spec("int32"), None)


def test_int8_scores_become_probabilities():
    decode = score_decoder(TensorSpec((1, 3), np.dtype(np.int8), 1 / 256, -128), None)
    found = decode(np.array([[-128, 0, -1]], np.int8))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.0, 0.5, 127 / 256]]


def test_uint8_scores_become_probabilities():
    decode = score_decoder(TensorSpec((1, 2), np.dtype(np.uint8), 1 / 256, 0), None)
    assert decode(np.array([[64, 192]], np.uint8)).tolist() == [[0.25, 0.75]]


def test_logits_of_foreign_files_go_through_softmax():
    decode = score_decoder(TensorSpec((1, 2), np.dtype(np.float32)), None)
    logits = np.array([[1.0, 3.0], [700.0, -700.0]], np.float32)
    expected = [[1 / (1 + np.e**2), 1 / (1 + np.e**-2)], [1.0, 0.0]]
    assert np.allclose(decode(logits), expected, atol=1e-6)
    probabilities = np.array([[0.25, 0.75]], np.float32)
    assert np.array_equal(decode(probabilities), probabilities)


@pytest.mark.parametrize("steps", [256, 255])  # of TFLite, and of ONNX Runtime's quantizer
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_an_int8_softmax_that_comes_as_floats_is_not_softmaxed_again(classes, steps):
    """What rounding took from its many small probabilities is no sign of logits."""
    logits = np.random.default_rng(0).normal(0, 2, (50, classes))
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rounded = (np.clip(np.round(exact * steps), 0, 255) / np.float32(steps)).astype(np.float32)
    assert classes == 10 or (np.abs(rounded.sum(axis=1) - 1) > 0.02).any()
    decode = score_decoder(TensorSpec((1, classes), np.dtype("float32"), 0.0, 0), None)
    np.testing.assert_array_equal(decode(rounded), rounded)
    np.testing.assert_allclose(decode(logits.astype(np.float32)), exact, rtol=1e-4)


def test_an_answer_does_not_depend_on_its_neighbours():
    decode = score_decoder(TensorSpec((1, 2), np.dtype(np.float32)), None)
    rows = np.array([[0.25, 0.75], [1.0, 3.0], [0.0, 1.0], [-1.0, 2.0]], np.float32)
    single = np.concatenate([decode(row[None]) for row in rows])
    assert np.array_equal(decode(rows), single)
    assert np.array_equal(single[0], rows[0])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pixels_as_they_are_have_an_encoding_too(dtype):
    with pytest.raises(EdgecifarError, match="'pixel/255': update edgecifar-runtime"):
        written(spec(dtype), {"input": {"encoding": "pixel/255"}})
    assert np.array_equal(written(spec(dtype), {"input": {"encoding": "pixel"}}), PIXELS)
