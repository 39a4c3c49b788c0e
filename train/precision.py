"""The precision of arithmetic: float32, or half of it where the hardware is made for that."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from edgecifar.runtime.environment import BFLOAT16, cpu_features

if TYPE_CHECKING:
    import tf_keras as keras


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[str]:
    """Set Keras' policy for the models that are built inside, and give its name.

    `auto` is float16 with loss scaling on a GPU, whose tensor cores want it, and float32 on a CPU.
    `bfloat16` becomes float32, and says so, on a CPU that has no instructions for it, and `float16`
    on any: emulated, the one took ten to thirty times as long (AMD Zen 3), the other 35 (Intel).
    """
    policy = policy_for(precision)
    if policy == "float32" and precision not in ("float32", "auto"):
        click.echo(f"training in float32: on this CPU {precision} would be emulated", err=True)
    with under(policy):
        yield policy


@contextlib.contextmanager
def under(policy: str) -> Iterator[None]:
    """Set Keras' policy, such as `mixed_bfloat16`, for the models that are built inside."""
    import tf_keras as keras

    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def policy_for(precision: str) -> str:
    """Return Keras' policy for a recipe's precision on this machine; see `computing_in`."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if precision == "auto":
        precision = "float16" if gpus else "float32"
    emulated = precision == "float16" or BFLOAT16 not in cpu_features()
    if not gpus and emulated:
        precision = "float32"
    return precision if precision == "float32" else f"mixed_{precision}"


def quickest_policy() -> str:
    """Return the policy with the quickest arithmetic here: of half precision if there is one."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return policy_for("float16" if gpus else "bfloat16")


def recast(model: "keras.Model", policy: str) -> "keras.Model":
    """Return `model`, which computes in float32, as one that follows `policy`, with its weights.

    The weights stay float32, and so do the first layer's inputs and the last one's probabilities.
    `model` itself comes back if that is what it does already.
    """
    import tf_keras as keras

    if policy == "float32":
        return model
    ends = (model.layers[0], model.layers[-1])

    def clone(layer):
        config = layer.get_config()
        return type(layer).from_config(config if layer in ends else config | {"dtype": policy})

    cast = keras.models.clone_model(model, clone_function=clone)
    cast.set_weights(model.get_weights())
    return cast
