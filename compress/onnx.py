"""Conversion of Keras models to ONNX bytes, raw pixels in and probabilities out."""

from typing import TYPE_CHECKING

from edgecifar.compress.tflite import with_raw_pixels
from edgecifar.runtime.quiet import quiet_stderr

if TYPE_CHECKING:
    import tf_keras as keras


def to_onnx(model: "keras.Model") -> bytes:
    """Convert `model` to float32 ONNX for NHWC float32 pixels 0..255, any batch size."""
    import tensorflow as tf
    import tf2onnx

    fed = with_raw_pixels(model)
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    with quiet_stderr():
        proto, _ = tf2onnx.convert.from_keras(fed, input_signature=signature, opset=17)
    return proto.SerializeToString()
