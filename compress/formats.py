"""The kinds of file that a model is exported to: how each is made, checked and compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgecifar.compress import onnx, onnx_int8, onnx_kernels, tflite
from edgecifar.compress.buffers import require_int8_weights
from edgecifar.compress.inspect import operations, require_int8, require_pixels
from edgecifar.compress.layers import owners_in
from edgecifar.compress.selective import file_part
from edgecifar.runtime.encoding import INT16_PIXEL, PIXEL, PIXEL_MINUS_128
from edgecifar.train.keras_files import is_quantization_aware

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Format:
    """A kind of file: its name in file names and options, and how to make its bytes."""

    name: str
    suffix: str
    encoding: str  # what the input tensor holds for a pixel
    exact: bool  # whether it computes what Keras computes, but for float32 rounding
    convert: Callable[["keras.Model", np.ndarray], bytes]
    # Largest difference of a probability on another machine: in the same interpreter, in another.
    tolerances: tuple[float, float] = (1e-4, 1e-4)  # float sums depend on their order
    # Error of a layer's output, relative to it, that rounding doesn't explain. Sound networks show
    # a third of it: 6 % in the last layers of an int8 ResNet-8, 3 % with float activations.
    layer_limit: float = 1e-3
    images: int | None = None  # that it is compared with Keras on, at most
    # Says what a file's bytes compute in, and raises EdgecifarError if that isn't what it promises.
    inspect: Callable[[bytes, "keras.Model", str], str] = lambda payload, model, name: ""
    float_layers: tuple[str, ...] = ()  # of an int8 file, that are in float
    # Whether ranges come from calibration images: unless fine-tuning has found them, or always.
    calibrated: Literal["never", "unless fine-tuned", "always"] = "never"

    def file_name(self, run: str) -> str:
        """Return such as `resnet8-qat-int8.tflite`."""
        part = file_part(self.float_layers)
        return f"{run}-{self.name}{part if part not in run else ''}{self.suffix}"

    def takes_ranges(self, model: "keras.Model") -> bool:
        """Whether converting `model` takes calibration images."""
        if self.calibrated == "unless fine-tuned":
            return not is_quantization_aware(model)
        return self.calibrated == "always"

    @property
    def takes_fine_tuned(self) -> bool:
        """Whether a model that was fine-tuned for int8 can become one."""
        return self.name == "int8"


def _integer_operations(payload: bytes, name: str, kind: str) -> str:
    require_int8(payload, name=name, kind=kind)
    require_pixels(payload, name=name, kind=kind)
    return f"{len(operations(payload))} operations, all on integers"


def _integer_kernels(payload: bytes, model: "keras.Model", name: str) -> str:
    return onnx_kernels.require_integer_kernels(payload, owners_in(model), name=name).text


# LiteRT's integer kernels give the same bits everywhere but for softmax, whose table on 64-bit Arm
# is another than on x86: one of its 256 steps. Another interpreter rounds elsewhere, which moves
# probabilities of an unsure model by a few. float16 weights may be multiplied in float16, and
# dynamic activations are rounded after float sums.
_TFLITE = {
    "float32": {"encoding": PIXEL, "exact": True},
    "float16": {"encoding": PIXEL, "tolerances": (0.01, 0.01), "layer_limit": 0.01},
    "dynamic": {
        "encoding": PIXEL,
        "tolerances": (0.02, 0.1),
        "layer_limit": 0.15,
        "inspect": lambda payload, model, name: require_int8_weights(payload, name=name),
    },
    "int8": {
        "encoding": PIXEL_MINUS_128,
        "calibrated": "unless fine-tuned",
        "tolerances": (1 / 256, 0.1),
        "layer_limit": 0.2,
        "inspect": lambda payload, model, name: _integer_operations(payload, name, "int8"),
    },
    "int16x8": {
        "encoding": INT16_PIXEL,
        "calibrated": "unless fine-tuned",
        "tolerances": (0.01, 0.02),  # 16-bit sums hardly round; the tables of softmax differ
        "layer_limit": 0.15,
        # No interpreter has fast kernels for it: 150 times an int8 file's latency in LiteRT.
        "images": 200,
        "inspect": lambda payload, model, name: _integer_operations(payload, name, "int16x8"),
    },
}


def _tflite(kind: tflite.Kind, traits: dict) -> Format:
    def convert(model: "keras.Model", images: np.ndarray) -> bytes:
        return tflite.to_tflite(model, kind, images)

    return Format(kind, ".tflite", **({"exact": False, "convert": convert} | traits))


FORMATS: dict[str, Format] = {kind: _tflite(kind, traits) for kind, traits in _TFLITE.items()} | {
    "onnx": Format("float32", ".onnx", PIXEL, True, lambda model, _: onnx.to_onnx(model)),
    "onnx-int8": Format(
        "int8",
        ".onnx",
        PIXEL,
        False,
        onnx_int8.to_onnx_int8,
        calibrated="always",  # fine-tuning finds no ranges for pooling and the like
        # onnxruntime rescales sums in float32, which may round to the next of 256 steps elsewhere.
        tolerances=(0.05, 0.1),
        layer_limit=0.2,
        inspect=_integer_kernels,
    ),
}
