"""The libraries that do the work; none is imported before it is asked for.

Nor is NumPy, so that `doctor` can speak where that is broken.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

MOST_THREADS = 256  # of one inference: with thousands interpreters crash
_UNKNOWN = "unknown"


class ComplaintError(Exception):
    """A library doesn't import; ``missing`` is the module that isn't there, if that is why."""

    def __init__(self, text: str, *, missing: str | None):
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True)
class Backend:
    """A library: how to import it and which pip command brings it.

    ``kind`` are the files that it runs; else what it is for.
    """

    name: str
    kind: str
    distributions: tuple[str, ...]
    load: Callable[[], Any]

    def load_or_complain(self) -> Any:
        """Import it. Raises ComplaintError with all that was said, if that fails in any way."""
        aside = io.StringIO()
        try:
            with redirect_stderr(aside):  # where NumPy says at length what it raises, too
                return self.load()
        except Exception as error:  # an extension module built for another NumPy raises anything
            text = f"{aside.getvalue()}{type(error).__name__}: {error}"
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            raise ComplaintError(text, missing=missing) from error

    @property
    def installed(self) -> str | None:
        """Version of the installed distribution, None if there is none that tells it."""
        return None if self.version == _UNKNOWN else self.version

    @property
    def version(self) -> str:
        """Version of the installed distribution, "unknown" if it has none."""
        from importlib.metadata import PackageNotFoundError, version

        for distribution in self.distributions:
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return _UNKNOWN


def _numpy() -> Any:
    import numpy

    return numpy


def _pillow() -> Any:
    from PIL import Image

    return Image


def _litert() -> Any:
    from ai_edge_litert.interpreter import Interpreter as LiteRT

    return LiteRT


def _tflite_runtime() -> Any:
    from tflite_runtime.interpreter import Interpreter as TfliteRuntime

    return TfliteRuntime


def _tensorflow() -> Any:
    import tensorflow as tf

    return tf.lite.Interpreter


def _onnxruntime() -> Any:
    import onnxruntime

    return onnxruntime


def _picamera2() -> Any:
    import picamera2

    return picamera2


def _opencv() -> Any:
    import cv2

    return cv2


BACKENDS = {  # in the order in which they are tried
    backend.name: backend
    for backend in (
        Backend("litert", "tflite", ("ai-edge-litert", "ai-edge-litert-nightly"), _litert),
        Backend("tflite-runtime", "tflite", ("tflite-runtime",), _tflite_runtime),
        Backend(
            "tensorflow", "tflite", ("tensorflow", "tensorflow-cpu", "tf-nightly"), _tensorflow
        ),
        Backend("onnxruntime", "onnx", ("onnxruntime", "onnxruntime-gpu"), _onnxruntime),
    )
}

NEEDED = {  # whatever the interpreter
    backend.name: backend
    for backend in (
        Backend("NumPy", "none", ("numpy",), _numpy),
        Backend("Pillow", "none", ("pillow",), _pillow),
    )
}

_OPENCV = "opencv-python-headless", "opencv-python", "opencv-contrib-python"

CAMERAS = {  # by the name of the module, in the order in which they are tried
    backend.name: backend
    for backend in (
        Backend("picamera2", "camera", ("picamera2",), _picamera2),
        Backend("cv2", "camera", _OPENCV, _opencv),
    )
}
