"""The bytes of a model file, run before they are a file that describes itself."""

from pathlib import Path

import numpy as np

from edgecifar.runtime.interpreters import Interpreter, choose_backend, open_unchecked
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.train.normalisation import normalise


def open_bare(payload: bytes, kind: str = "tflite") -> Interpreter:
    """Return an interpreter of a file's bytes, `tflite` or `onnx`, on one thread."""
    model = ModelFile(Path(f"bytes.{kind}"), kind, payload, None, None, len(payload))
    return open_unchecked(model, choose_backend(kind), threads=1)


def probabilities(payload: bytes, images: np.ndarray) -> np.ndarray:
    """Return what a file's bytes say of uint8 images: float32 [n, classes].

    The file takes int8 `pixel - 128`, or normalised float32.
    """
    interpreter = open_bare(payload)

    def encode(image: np.ndarray) -> np.ndarray:
        if interpreter.input.dtype == np.int8:
            return (image.astype(np.int16) - 128).astype(np.int8)
        return normalise(image.astype(np.float32))

    # One by one: all images at once may be more than memory holds.
    found = np.concatenate([interpreter.run(encode(each[None])).copy() for each in images])
    if found.dtype != np.int8:
        return found
    output = interpreter.output
    return ((found.astype(np.float32) - output.zero_point) * output.scale).astype(np.float32)
