"""Conversion of Keras models to ONNX bytes, raw pixels in and probabilities out."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

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
    fed = with_raw_pixels(model)
    with quiet_converters(), converting("ONNX"):
        return from_keras(fed, "image", opset=17).SerializeToString()


def from_keras(
    model: "keras.Model", name: str, *, opset: int, channels_first: bool = False
) -> "onnx.ModelProto":
    """Return the ONNX graph of `model`, whose input gets that name and any batch size.

    Raises onnx's own error for an operation that it doesn't know.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    for layer in model.submodules:
        if getattr(layer, "groups", 1) > 1:  # Keras compiles these, which the converter can't read
            layer._jit_compiled_convolution_op = layer.convolution_op
    proto, _ = tf2onnx.convert.from_keras(
        model,
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=name)],
        opset=opset,
        inputs_as_nchw=[name] if channels_first else None,
        custom_op_handlers={"Erfc": (_write_erfc, [])},
    )
    onnx.checker.check_model(proto)  # or it names an operation that is left as TensorFlow's
    return proto


def _write_erfc(graph: Any, node: Any, name: str, _: Sequence[Any]) -> None:
    """Write TensorFlow's Erfc, of which GELU is made, as 1 - Erf: ONNX has no other."""
    one = graph.make_const(f"{name}/one", np.ones((), np.float32)).output[0]
    outputs, shape, dtype = node.output, node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    # Named after the layer, as all of its nodes are: --keep-float finds them so.
    erf = graph.make_node("Erf", node.input, name=f"{name}/Erf").output[0]
    graph.make_node("Sub", [one, erf], outputs=outputs, shapes=shape, dtypes=dtype, name=name)


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
