"""The architectures that `edgecifar train` knows, one a file, found by name.

Every model takes images normalised as `(pixel - 120) / 64` (float32, NHWC) and returns class
probabilities. With that normalisation the int8 form of a pixel is exactly `pixel - 128`: see
`edgecifar.train.normalisation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.recipe import did_you_mean

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Architecture:
    """A named network.

    `build(image_size, classes)` takes (height, width) in pixels and the number of classes, and
    returns an uncompiled Keras 2 model.
    """

    name: str
    summary: str
    build: Callable[[tuple[int, int], int], "keras.Model"]


_MODULES = ("baseline", "resnet8")


def names() -> tuple[str, ...]:
    """Return the names of all architectures."""
    return _MODULES


def find(name: str) -> Architecture:
    """Return the architecture called `name`; an unknown one is answered with the nearest."""
    if name not in _MODULES:
        raise EdgecifarError(f"unknown architecture {name!r}{did_you_mean(name, _MODULES)}")
    module = import_module(f"edgecifar.train.models.{name}")
    return Architecture(name, module.__doc__.splitlines()[0].rstrip("."), module.build)


def catalogue(image_size: tuple[int, int] = (32, 32), classes: int = 10) -> list[dict]:
    """Return name, summary, parameters and MACs of every architecture, as plain values."""
    from edgecifar.train.macs import count_macs

    rows = []
    for architecture in map(find, names()):
        model = architecture.build(image_size, classes)
        rows.append(
            {
                "name": architecture.name,
                "summary": architecture.summary,
                "input": [*image_size, 3],
                "parameters": model.count_params(),
                "macs": count_macs(model),
            }
        )
    return rows
