"""From pixels to a model's input tensor, and from its output tensor to probabilities."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import TensorSpec

# Steps of an int16 input for a step of a pixel: the largest whole number with which 0..255 fit.
STEPS_A_PIXEL = 242
# What metadata calls the ways in which our files hold pixels: floats or uint8 as they are, int8,
# and int16 whose steps fill the range.
PIXEL, PIXEL_MINUS_128, INT16_PIXEL = "pixel", "pixel-128", f"{STEPS_A_PIXEL}*(pixel-120)"
# Scales and zero points of int8 inputs that hold `pixel - 128`: MLPerf Tiny's 0..255, the common
# 0..1, and -1..1, of which -128 stands for -1 but for half a step.
_PLAIN = ((1.0, -128), (1 / 255, -128), (2 / 255, -1), (2 / 255, 0), (1 / 128, 0))
_SOFTMAX_SCALE = 1 / 256  # TensorFlow Lite fixes the scale of an 8-bit softmax to this
_TOP_BIT = np.array(128, np.uint8)

Transform = Callable[[np.ndarray], np.ndarray]
Writer = Callable[[np.ndarray], object]


def pixel_writer(tensor: np.ndarray, spec: TensorSpec, metadata: dict[str, Any] | None) -> Writer:
    """Return what writes an image, uint8 [H, W, 3], into the input tensor [1, H, W, 3].

    ``tensor`` has the dtype of ``spec`` and is used again for every image: after an inference new
    memory would cost more time than the pixels do.

    Files of ours take int8 `pixel - 128`, int16 `242 (pixel - 120)`, uint8 pixels or float pixels
    0..255. A foreign int8 file whose scale and zero point are those of 0..255, 0..1 or -1..1 takes
    `pixel - 128` too; others' values are taken to mean pixels 0..255, if they reach that far.

    Raises:
        EdgecifarError: nothing says how pixels map to this tensor.

    """
    image = tensor[0]
    declared = ((metadata or {}).get("input") or {}).get("encoding")
    if spec.dtype in (np.uint8, np.float32, np.float16):
        if declared not in (None, PIXEL):
            raise _unknown(declared)
        return partial(np.copyto, image)
    if spec.dtype == np.int16 and declared == INT16_PIXEL:
        table = STEPS_A_PIXEL * (np.arange(256, dtype=np.int16) - 120)
    elif spec.dtype != np.int8:
        raise EdgecifarError(f"its input is {spec.dtype}: export it with float32, int8 or uint8")
    elif declared == PIXEL_MINUS_128 or _is_plain_int8(spec):
        # Flipping the top bit of a byte is the same as subtracting 128 into a signed one.
        stored = image.view(np.uint8)
        return lambda pixels: np.bitwise_xor(pixels, _TOP_BIT, stored)
    elif declared is not None:
        raise _unknown(declared)
    else:
        table = _table(spec)
    return lambda pixels: table.take(pixels, out=image, mode="clip")


def _unknown(declared: object) -> EdgecifarError:
    return EdgecifarError(f"its input encoding is {declared!r}: update edgecifar-runtime")


def score_decoder(spec: TensorSpec, metadata: dict[str, Any] | None) -> Transform:
    """How the output tensor becomes float32 probabilities of the same shape.

    Quantized values are mapped by a table. A foreign file's scores that aren't probabilities
    already (non-negative, with a sum of 1 but for rounding) go through softmax.
    """
    dequantize = _dequantizer(spec)
    # With `metadata` the file is ours and ends in softmax; with this scale it ends in softmax too.
    if metadata is not None or (spec.scale == _SOFTMAX_SCALE and _lowest(spec) == 0):
        return dequantize
    return lambda scores: _as_probabilities(dequantize(scores))


def _is_plain_int8(spec: TensorSpec) -> bool:
    return any(
        spec.zero_point == zero_point and abs(spec.scale - scale) < 1e-3 * scale
        for scale, zero_point in _PLAIN
    )


def _table(spec: TensorSpec) -> np.ndarray:
    """Return the int8 value of each pixel from 0 to 255."""
    lowest, highest = ((q - spec.zero_point) * spec.scale for q in (-128, 127))
    slack = spec.scale  # one step short of 255 only clips the brightest pixels
    if spec.scale == 0 or lowest > slack or highest < 255 - slack:
        raise EdgecifarError(
            f"its int8 input spans {lowest:.4g} to {highest:.4g}, not pixels 0 to 255, and it "
            "doesn't say how it was normalised: export it with edgecifar"
        )
    steps = np.round(np.arange(256) / spec.scale) + spec.zero_point
    return np.clip(steps, -128, 127).astype(np.int8)


def _dequantizer(spec: TensorSpec) -> Transform:
    if spec.dtype == np.int16:
        scale, zero_point = np.float32(spec.scale or 1.0), np.float32(spec.zero_point)
        return lambda scores: (scores.astype(np.float32) - zero_point) * scale
    if spec.dtype not in (np.int8, np.uint8):
        return lambda scores: scores.astype(np.float32, copy=False)
    stored = np.arange(256, dtype=np.uint8).view(spec.dtype).astype(np.float32)
    scale = spec.scale or 1.0
    table = ((stored - np.float32(spec.zero_point)) * np.float32(scale)).astype(np.float32)
    return table.take  # a negative index counts from the end, as it does in two's complement


def _lowest(spec: TensorSpec) -> float:
    """Real value of the smallest 8-bit number, 0 for a softmax."""
    return (np.iinfo(spec.dtype).min - spec.zero_point) * spec.scale


def _are_probabilities(row: list[float]) -> bool:
    if min(row) < 0:
        return False
    off = abs(sum(row) - 1)
    # An int8 softmax that the file itself turns into floats is rounded, class by class, in steps of
    # 1/256 by TFLite and of 1/255 by ONNX Runtime's quantizer.
    return off < 0.02 or (off < len(row) / 510 and any(_has_steps(row, n) for n in (256, 255)))


def _has_steps(row: list[float], count: int) -> bool:
    return all(abs(value * count - round(value * count)) < 1e-3 for value in row)


def _as_probabilities(scores: np.ndarray) -> np.ndarray:
    # For one image this costs a sixth of what NumPy's reductions do.
    done = [*map(_are_probabilities, scores.tolist())]
    if all(done):
        return scores
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found = shifted / shifted.sum(axis=-1, keepdims=True)
    if any(done):  # each image by itself: its answer mustn't depend on its neighbours
        found[done] = scores[done]
    return found
