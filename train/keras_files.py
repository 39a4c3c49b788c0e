"""Keras model files: saving and loading them, and saying which can't be loaded."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras


def load_model(path: Path) -> "keras.Model":
    """Load a Keras 2 model (.keras, .h5 or a SavedModel folder), uncompiled, in float32.

    Models fine-tuned with quantization in the loop load too. Python code in a file, such as a
    Lambda's, is never run. Raises EdgecifarError for anything else.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras
    from tf_keras.src.saving.serialization_lib import SafeModeScope  # HDF5 needs it, not public

    if not path.exists():
        raise EdgecifarError(f"{path} is missing")
    hold_random_states()
    try:
        with tfmot.quantization.keras.quantize_scope(), SafeModeScope(safe_mode=True):
            return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras lets through whatever goes wrong in a damaged file
        raise EdgecifarError(
            f"{path} can't be loaded as a Keras 2 model: {first_line(error)}"
        ) from error


def hold_random_states() -> None:
    """Make the random state of dropout, in layers built from now on, a variable.

    Checkpoints hold it then, and a resumed run drops what the uninterrupted one would have dropped.
    """
    import tf_keras as keras

    keras.backend.experimental.enable_tf_random_generator()


def save_model(model: "keras.Model", path: Path) -> None:
    """Save `model` as HDF5, the one format in which quantization wrappers survive.

    In Keras' own format the toolkit's input quantizer can't be loaded again.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
        model.save(path, save_format="h5", include_optimizer=False)


def is_quantization_aware(model: "keras.Model") -> bool:
    """Tell whether `model` was fine-tuned with quantization in the loop."""
    from tensorflow_model_optimization.quantization.keras import QuantizeWrapper

    return any(isinstance(layer, QuantizeWrapper) for layer in model.layers)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
