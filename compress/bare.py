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
    if interpreter.input.dtype == np.int8:
        inputs = (images.astype(np.int16) - 128).astype(np.int8)
    else:
        inputs = normalise(images.astype(np.float32))
    found = np.concatenate([interpreter.run(each[None]).copy() for each in inputs])
    if found.dtype != np.int8:
        return found
    output = interpreter.output
    return ((found.astype(np.float32) - output.zero_point) * output.scale).astype(np.float32)
