"""Classify images on a low-power device with a .tflite or .onnx file.

    from edgecifar.runtime import Classifier, read_image
    Classifier().predict(read_image("photo.jpg")).labels

The names below are imported when they are first used: a command line that only needs
one of them doesn't pay for the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecifar.runtime.classifier import Classifier, Predictions
    from edgecifar.runtime.errors import EdgecifarError
    from edgecifar.runtime.images import read_image

__all__ = ["Classifier", "EdgecifarError", "Predictions", "__version__", "read_image"]

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "classifier",
    "Predictions": "classifier",
    "EdgecifarError": "errors",
    "read_image": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"edgecifar.runtime.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
