"""Conversion of Keras models to TFLite bytes, raw pixels in and probabilities out."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from edgecifar.runtime.quiet import quiet_stderr
from edgecifar.train.normalisation import MEAN, SCALE, normalise

if TYPE_CHECKING:
    import tf_keras as keras

Kind = Literal["float32", "float16", "dynamic", "int8"]
KINDS: tuple[Kind, ...] = ("float32", "float16", "dynamic", "int8")


def to_tflite(model: "keras.Model", kind: Kind, calibration: np.ndarray) -> bytes:
    """Convert `model`, which takes normalised images, to a file for one raw image.

    float files take float32 pixels 0..255; int8 files int8 `pixel - 128`, which is the
    normalisation itself (see `edgecifar.train.normalisation`). `calibration` are uint8 training
    images [n, height, width, 3]; int8 uses them unless the model was fine-tuned with quantization
    in the loop, which brings its own ranges.
    """
    import tensorflow as tf

    shape = (1, *model.input_shape[1:])
    fed = model if kind == "int8" else with_raw_pixels(model)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    def serve(image):
        return fed(image, training=False)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], fed
    )
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
        if not is_quantization_aware(model):
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: _samples(calibration)
    with quiet_stderr(b"fully_quantize:", b"W0000"):
        return converter.convert()


def is_quantization_aware(model: "keras.Model") -> bool:
    """Tell whether `model` was fine-tuned with quantization in the loop."""
    from tensorflow_model_optimization.quantization.keras import QuantizeWrapper

    return any(isinstance(layer, QuantizeWrapper) for layer in model.layers)


def with_raw_pixels(model: "keras.Model") -> "keras.Model":
    """Return `model` behind its normalisation: float32 pixels 0..255 in."""
    import tf_keras as keras

    pixels = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(pixels, model(keras.layers.Rescaling(1 / SCALE, -MEAN / SCALE)(pixels)))


def _samples(images: np.ndarray):
    """Yield single normalised images, the first two black and white.

    Those two make the input range exactly that of all pixels.
    """
    for image in (np.zeros_like(images[0]), np.full_like(images[0], 255), *images):
        yield [normalise(image[None].astype(np.float32))]
