"""Training on several devices of one machine, as copies that see a share of each batch."""

from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import require

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

STRATEGIES = ("none", "mirrored")


def start_strategy(name: str, *, batch_size: int) -> "tf.distribute.Strategy | None":
    """Return the strategy called `name`: `mirrored` copies the model to every GPU, else CPU.

    `none` is None. `batch_size` counts the images of all devices together, so that a recipe means
    the same on any number of them. Raises EdgecifarError if it can't be divided.
    """
    import tensorflow as tf

    require(name in STRATEGIES, "--strategy", name, f"one of {', '.join(STRATEGIES)}")
    if name == "none":
        return None
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if batch_size % len(found):
        raise EdgecifarError(
            f"a batch of {batch_size} can't be divided among {len(found)} devices: "
            f"use --batch-size {max(1, batch_size // len(found)) * len(found)}"
        )
    return tf.distribute.MirroredStrategy([device.name for device in found])


def replicate(model: "keras.Model") -> "keras.Model":
    """Return a copy of `model` for the strategy in whose scope this is called.

    Its batch normalisation takes the statistics of the whole batch, not of one device's share:
    otherwise the loss would depend on the number of devices. (Keras' fused kernels can't, which
    makes this slower on one device; hence a copy and not the models as such.)
    """
    import tf_keras as keras

    def copy(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = True
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin
