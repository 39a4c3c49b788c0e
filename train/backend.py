"""Start TensorFlow: late, quietly, and with one clear line where that fails."""

from types import ModuleType

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.quiet import quiet_stderr


def start_tensorflow() -> ModuleType:
    """Import TensorFlow and let it look for devices, without its messages about both.

    Raises EdgecifarError with the pip command if it isn't installed.
    """
    try:
        with quiet_stderr():
            import tensorflow as tf

            tf.config.list_physical_devices()
        tf.get_logger().setLevel("ERROR")
    except ModuleNotFoundError as error:
        raise EdgecifarError(
            f"TensorFlow can't be imported ({error}): install edgecifar again, which brings it"
        ) from error
    return tf
