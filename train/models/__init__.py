"""The architectures that `edgecifar train` knows, one a file, found by name.

Every model takes images normalised as `(pixel - 120) / 64` (float32, NHWC) and returns class
probabilities. With that normalisation the int8 form of a pixel is exactly `pixel - 128`: see
`edgecifar.train.normalisation`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.models import edgenet
from edgecifar.train.parsing import did_you_mean, override
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import numpy as np
    import tf_keras as keras

    from edgecifar.train.models.backbone import Backbone
    from edgecifar.train.trunk import Trunk


@dataclass(frozen=True)
class Architecture:
    """A named network.

    `build(image_size, classes)` takes (height, width) in pixels and the number of classes, and
    returns an uncompiled Keras 2 model. `backbone` is there if the network can start from weights
    learnt elsewhere, on ImageNet or in a run. `initialise(model, images)` sets first weights by
    uint8 training images; `deploy(model)` returns what a trained network is saved as, where that
    is another one.
    `training` are the settings of `Training` that suit the network better than the defaults.
    """

    name: str
    summary: str
    build: Callable[..., "keras.Model"]
    backbone: "Backbone | Trunk | None" = None
    initialise: "Callable[[keras.Model, np.ndarray], None] | None" = None
    deploy: "Callable[[keras.Model], keras.Model] | None" = None
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Training:
        """The settings that suit the network where it starts from random weights."""
        return override(Training(), self.training)

    def built_for(self, image_size: tuple[int, int], classes: int) -> "keras.Model":
        """Build it; raise EdgecifarError if such images, (height, width), are too small for it."""
        try:
            return self.build(image_size, classes)
        except ValueError as error:
            height, width = image_size
            raise EdgecifarError(
                f"{self.name} can't take images of {width}x{height} pixels: give a larger "
                "--image-size, or another architecture"
            ) from error

    def deployed(self, model: "keras.Model") -> "keras.Model":
        """Return what a trained network is saved as: itself, if there is no `deploy`."""
        return self.deploy(model) if self.deploy else model


_MODULES = (
    "baseline",
    "improved",
    "advanced",
    "resnet8",
    "resnet50",
    "efficientnetv2b0",
    "efficientnet_lite0",
)


def names() -> tuple[str, ...]:
    """Return the names of all architectures; shapes such as `edge-16-s32r-s48r` are others."""
    return (*_MODULES, *edgenet.PRESETS)


def find(name: str) -> Architecture:
    """Return the architecture called `name`; an unknown one is answered with the nearest."""
    if shape := edgenet.find(name):
        return _of_shape(name, shape)
    if name not in _MODULES:
        raise EdgecifarError(f"unknown architecture {name!r}{did_you_mean(name, names())}")
    module = import_module(f"edgecifar.train.models.{name}")
    return Architecture(
        name=name,
        summary=module.__doc__.splitlines()[0].rstrip("."),
        build=module.build,
        backbone=getattr(module, "BACKBONE", None),
        training=getattr(module, "TRAINING", {}),
    )


def _of_shape(name: str, shape: edgenet.Shape) -> Architecture:
    return Architecture(
        name=name,
        summary=f"Dense 3x3 convolutions for int8 on CPUs: {shape}",
        build=partial(edgenet.build, shape),
        initialise=edgenet.initialise if shape.whitened else None,
        deploy=partial(edgenet.fold, shape) if shape.branches else None,
    )
