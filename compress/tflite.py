"""Conversion of Keras models to TFLite bytes, raw pixels in and probabilities out."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from edgecifar.compress.conversion import converting
from edgecifar.compress.layers import CONVERTED
from edgecifar.compress.wrappers import widen_idle_ranges
from edgecifar.runtime.encoding import STEPS_A_PIXEL
from edgecifar.runtime.quiet import quiet_stderr
from edgecifar.train.keras_files import is_quantization_aware
from edgecifar.train.normalisation import MEAN, SCALE, normalise

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

# How lines begin that the converter writes to stderr: what is wrong its exception says too.
NOISE = (b"fully_quantize:", b"W0000", b"loc(", b"error:", b"Some ops in", b"Custom ops:",
         b"Details:", b"\ttf.")  # fmt: skip

Kind = Literal["float32", "float16", "dynamic", "int8", "int16x8"]
INTEGER_KINDS = ("int8", "int16x8")


def to_tflite(model: "keras.Model", kind: Kind, calibration: np.ndarray) -> bytes:
    """Convert `model`, which takes normalised images, to a file for one raw image.

    float files take float32 pixels 0..255; int8 files int8 `pixel - 128`, which is the
    normalisation itself (see `edgecifar.train.normalisation`), and int16x8 files, of 16-bit
    activations and 8-bit weights, int16 `242 (pixel - 120)` likewise. `calibration` are uint8
    training images [n, height, width, 3]; integer files use them unless the model was fine-tuned
    with quantization in the loop, which brings its own ranges.
    """
    import tensorflow as tf

    converter = converter_of(model if kind in INTEGER_KINDS else with_raw_pixels(model))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
        if not is_quantization_aware(model):
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: samples(calibration)
    if kind == "int16x8":
        converter.inference_input_type = converter.inference_output_type = tf.int16
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        converter.representative_dataset = lambda: _samples_for_int16(calibration)
    with quiet_stderr(*NOISE), converting(f"{kind} TFLite"):
        return converter.convert()


def converter_of(model: "keras.Model") -> "tf.lite.TFLiteConverter":
    """Return a converter for one image at a time, its options left as TensorFlow has them.

    In a model that was fine-tuned with quantization in the loop filters without weights are given
    wider ranges (see `widen_idle_ranges`).
    """
    import tensorflow as tf
    import tf_keras as keras

    if is_quantization_aware(model):
        widen_idle_ranges(model)
    shape = (1, *model.input_shape[1:])
    model = keras.Model(model.input, model.output, name=CONVERTED)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    def serve(image):
        return model(image, training=False)

    # The converter saves what holds the variables, and with a Keras model a trace of each layer,
    # which takes several times as long as all else.
    holder = tf.Module()
    holder.weights = model.variables
    return tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], holder)


def with_raw_pixels(model: "keras.Model") -> "keras.Model":
    """Return `model` behind its normalisation: float32 pixels 0..255 in."""
    import tf_keras as keras

    pixels = keras.Input(model.input_shape[1:], name="image")
    model = keras.Model(model.input, model.output, name=CONVERTED)  # its own may be that too
    return keras.Model(pixels, model(keras.layers.Rescaling(1 / SCALE, -MEAN / SCALE)(pixels)))


def samples(images: np.ndarray):
    """Yield single normalised images, the first with a black and a white pixel in its corners.

    Those two make the input range exactly that of all pixels. Whole images of them would widen the
    ranges of inner layers where others are never as dark or as bright.
    """
    first = images[0].copy()
    first[0, 0], first[-1, -1] = 0, 255
    for image in (first, *images[1:]):
        yield [normalise(image[None].astype(np.float32))]


def _samples_for_int16(images: np.ndarray):
    """Yield single normalised images, a pixel of the first of which sets the scale of the input.

    A 16-bit tensor's scale is its largest value over 32767, its zero point 0. A pixel a little
    brighter than white makes that scale 1 / (64 * 242).
    """
    for number, (image,) in enumerate(samples(images)):
        if number == 0:
            image[0, -1, -1] = np.iinfo(np.int16).max / (STEPS_A_PIXEL * SCALE)
        yield [image]
