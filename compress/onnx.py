"""Conversion of Keras models to ONNX bytes, raw pixels in and probabilities out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgecifar.compress.conversion import converting
from edgecifar.compress.tflite import with_raw_pixels
from edgecifar.runtime.quiet import quiet_stderr

if TYPE_CHECKING:
    import onnx
    import tf_keras as keras


def to_onnx(model: "keras.Model") -> bytes:
    """Convert `model` to float32 ONNX for NHWC float32 pixels 0..255, any batch size.

    Raises EdgecifarError for an operation that ONNX has not.
    """
    import tensorflow as tf
    import tf2onnx

    fed = with_raw_pixels(model)
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    with quiet_converters(), converting("ONNX"):
        proto, _ = tf2onnx.convert.from_keras(fed, input_signature=signature, opset=17)
        require_known_operations(proto)
    return proto.SerializeToString()


def require_known_operations(proto: "onnx.ModelProto") -> None:
    """Raise onnx's own error, naming it, for an operation that tf2onnx has left as TensorFlow's."""
    import onnx

    onnx.checker.check_model(proto)


@contextmanager
def quiet_converters() -> Iterator[None]:
    """Keep what converters log, to the root logger, from the user: what is wrong they raise too."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quiet_stderr():
            yield
    finally:
        logging.disable(level)
