"""Transfer learning in two phases: a head on frozen features, then the last layers with it."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models, zoo
from edgecifar.train.adopt.copying import SHIFT
from edgecifar.train.files import write_rows
from edgecifar.train.models.backbone import Backbone, enlargement, usual_size
from edgecifar.train.parsing import require
from edgecifar.train.run import Run, open_run, start_run
from edgecifar.train.settings import Augmentation, Training
from edgecifar.train.trunk import Trunk, trunk_of

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.data import Dataset

FINE_TUNING = Training(
    epochs=18,
    batch_size=64,
    optimizer="adam",
    learning_rate=1e-5,
    schedule="constant",
    warmup=0.0,
    weight_decay=0.0,
    early_stopping=4,
)
"""Settings of the second phase that suit pretrained weights: the seed report's rate and epochs."""

FROM_RUN = Training(
    epochs=30,
    batch_size=64,
    optimizer="adam",
    learning_rate=1e-3,
    schedule="cosine",
    warmup=0.1,
    weight_decay=0.0,
    precision="float32",
)
"""Those that suit the small networks of our own runs, as found on digits from CIFAR-10's resnet8.

There batch normalisation must stay frozen: its averages don't settle in the steps of a short fit.
"""


_LEAST_ZEROS = 0.05  # of all weights: fewer may be chance


@dataclass(frozen=True)
class Head:
    """How the head learns: Adam at a constant rate, on features that are computed once.

    Hence no augmentation here; the second phase has it.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    early_stopping: int = 4

    def __post_init__(self) -> None:
        try:
            self.settings(self.batch_size)
        except EdgecifarError as error:
            raise EdgecifarError(f"of the head {error}") from None

    def settings(self, images: int) -> Training:
        """Return these as settings of a fit to `images` images, which may be few."""
        return Training(
            epochs=self.epochs,
            batch_size=min(self.batch_size, max(1, images // 4)),
            optimizer="adam",
            learning_rate=self.learning_rate,
            schedule="constant",
            warmup=0.0,
            weight_decay=0.0,
            early_stopping=self.early_stopping,
            precision="float32",
            augment=Augmentation(flip="none", crop=0),
        )


HEAD_FROM_RUN = Head(epochs=50, batch_size=64, learning_rate=1e-2, early_stopping=10)
"""The head of such a network: few features, so that it learns slowly from few steps."""


@dataclass(frozen=True)
class Transfer:
    """Where a backbone's weights come from, and how much of it learns on.

    `weights` is `imagenet`, a file of weights as published, a finished run of the same
    architecture (its folder, or the name of a model that ships), or `none`, with which everything
    is trained at once from random weights.
    """

    weights: str = "imagenet"
    # Pixels, for networks made for ImageNet. None: the first multiple of the images' from 96 on.
    backbone_size: int | None = None
    unfreeze: int = 50  # last layers of the backbone that are fine-tuned; 0 leaves it frozen
    batch_norm: Literal["frozen", "trained"] = "frozen"
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        require(self.unfreeze >= 0, "unfreeze", self.unfreeze, "0 or more layers")
        size = self.backbone_size
        require(size is None or size >= 0, "backbone_size", size, "0 or more")

    def for_images(self, image_size: tuple[int, int]) -> "Transfer":
        """Return this with a definite `backbone_size` for images of (height, width)."""
        size = usual_size(image_size) if self.backbone_size is None else self.backbone_size
        enlargement(image_size, size)  # raises if it isn't a whole multiple
        return dataclasses.replace(self, backbone_size=size)


def train(
    architecture: str,
    dataset: "Dataset",
    settings: Training,
    transfer: Transfer,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    tensorboard: bool = False,
    strategy: str = "none",
) -> Run:
    """Train `architecture` from pretrained weights into the run folder `out`, or resume it there.

    `settings` are those of the second phase, which is dropped where the head alone was right on
    more of the validation images. Each phase keeps its checkpoints (the first in the subfolder
    `head`), so that a killed run goes on in either.
    """
    from edgecifar.train.devices import start_strategy
    from edgecifar.train.features import fit_head
    from edgecifar.train.loop import require_batches
    from edgecifar.train.precision import policy_for
    from edgecifar.train.session import finish, fit_built, seeded_build

    devices, second = None, transfer.weights == "none" or transfer.unfreeze > 0
    if second:
        require_batches(dataset, settings)
        devices = start_strategy(strategy, batch_size=settings.batch_size)
    known, transfer = _find(architecture, transfer, dataset.image_size)
    model = seeded_build(known, dataset, seed)
    source = load_weights(known.backbone, model, transfer.weights)
    how = {"stage": "train", "architecture": architecture, "seed": seed}
    origin = dataclasses.asdict(transfer) | {"weights": source}
    run = start_run(out, dataset, settings, force=force, transfer=origin, **how)
    headed, fitted = model, None
    if transfer.weights != "none":
        head = transfer.head.settings(len(dataset.train))
        click.echo("the head alone learns, on what the other layers make of the images", err=True)
        fitted = fit_head(known.backbone, model, dataset, head, run.path, seed=seed)
        result = fitted.fit
        told = _told(result) | {"feature_seconds": round(fitted.feature_seconds, 1)}
        run.update(head=run.info.get("head") or told)  # that of a run that goes on is told
    computed_in = "float32"  # as heads are
    if second:
        computed_in = policy_for(settings.precision)
        weights = model.get_weights()
        if fitted:
            click.echo(f"with it the last {transfer.unfreeze} layers learn", err=True)

        def build() -> "keras.Model":
            built = seeded_build(known, dataset, seed)
            built.set_weights(weights)
            freeze(known.backbone, built, transfer)
            return built

        model, result = fit_built(
            build,
            dataset,
            settings,
            run.path,
            seed=seed,
            tensorboard=tensorboard,
            devices=devices,
        )
        if fitted and result.best_accuracy < fitted.fit.best_accuracy:
            run.update(dropped=_told(result))
            model, result, computed_in = headed, fitted.fit, "float32"
            write_rows(run.path / "history.csv", result.history)
    thaw(model)  # a file remembers what was frozen, and later stages train everything
    of_features = fitted and result is fitted.fit  # whose speed is not that of images
    speed = {"images_per_second": None} if of_features else {}
    finish(run, model, dataset, result, computed_in=computed_in, **speed)
    for features in (run.path / "head").glob("features-*.npy"):
        features.unlink()
    return run


def _told(fit: "Fit") -> dict[str, Any]:
    """Return what is noted of a phase; top1 is percent of the validation images."""
    return {
        "epochs": len(fit.history),
        "train_seconds": round(fit.seconds, 1),
        "top1": round(100 * fit.best_accuracy, 2),
    }


def source_run(weights: str | None) -> Run | None:
    """Return the run that `Transfer.weights` names, a shipped model's too; None for the rest.

    Raises EdgecifarError if there is no such file, folder or model.
    """
    if weights in (None, "imagenet", "none") or Path(weights).is_file():
        return None
    if not (Path(weights).is_dir() or zoo.find(weights)):
        raise EdgecifarError(
            f"{weights} is missing: --weights takes imagenet, none, a file, the folder of a run or "
            f"a model that ships ({', '.join(zoo.names())})"
        )
    return open_run(Path(weights))


def require_used(asked: Mapping[str, Any], training: Iterable[str]) -> None:
    """Raise EdgecifarError if any of the settings that a user gave would change nothing.

    `asked` are those of `Transfer`, under dotted keys, `training` the keys of the second phase's.
    """
    if asked["weights"] == "none":
        why = "with --weights none everything learns at once"
        phases = ("head.", "unfreeze", "batch_norm")
        idle = [f"transfer.{key}" for key in asked if key.startswith(phases)]
    elif asked.get("unfreeze") == 0:
        why = "with unfreeze 0 the head alone learns, by settings such as transfer.head.epochs"
        idle = [*training, *(f"transfer.{key}" for key in asked if key == "batch_norm")]
    else:
        return
    if idle:
        raise EdgecifarError(f"{why}: leave out {' and '.join(idle)}")


def usual(architecture: str, weights: str = Transfer.weights) -> tuple[Training, Transfer]:
    """Return the settings that suit `architecture` and such `weights` as `Transfer` has.

    Those of the second phase come first; with `none` it is the only one.
    """
    if architecture not in _imagenet_names():
        return FROM_RUN, Transfer(head=HEAD_FROM_RUN)
    if weights == "none":  # which the rates for trained weights are too slow for
        return models.find(architecture).settings, Transfer()
    return FINE_TUNING, Transfer()


def _imagenet_names() -> list[str]:
    """Return the names of the architectures that can start from weights learnt on ImageNet."""
    return [name for name in models.names() if models.find(name).backbone]


def _find(
    architecture: str, transfer: Transfer, image_size: tuple[int, int]
) -> tuple[models.Architecture, Transfer]:
    """Return the network to build, and `transfer` with a definite `backbone_size`."""
    run = source_run(transfer.weights)
    if run and run.info["architecture"] != architecture:
        raise EdgecifarError(
            f"{run.name} is a run of {run.info['architecture']}, not of {architecture}"
        )
    if run and (zeros := _zeros(run.load_model())) > _LEAST_ZEROS:
        raise EdgecifarError(
            f"{100 * zeros:.0f} % of the weights of {run.name} are zero and would not stay so: "
            "start from the run before that, and make the new run sparse afterwards"
        )
    able = _imagenet_names()
    if run and architecture not in able:
        if transfer.backbone_size:
            raise EdgecifarError(f"{architecture} enlarges no images: leave out --backbone-size")
        trunk = trunk_of(run)
        known = models.Architecture(architecture, f"that of {run.name}", trunk.build, trunk)
        return known, dataclasses.replace(transfer, backbone_size=0)
    known = models.find(architecture)
    if known.backbone is None and transfer.weights == "none":
        raise EdgecifarError(
            f"{architecture} starts from random weights unless a run is given: leave out --weights"
        )
    if known.backbone is None:
        raise EdgecifarError(
            f"there are no pretrained weights for {architecture}: choose from {', '.join(able)}, "
            "or give a run of it"
        )
    transfer = transfer.for_images(image_size)
    build = partial(known.build, backbone_size=transfer.backbone_size)
    return dataclasses.replace(known, build=build), transfer


def _zeros(model: "keras.Model") -> float:
    """Return the share of zeros in the weights of layers that compute."""
    values = [weight.numpy() for weight in model.weights if weight.shape.rank > 1]
    return sum(int((value == 0).sum()) for value in values) / sum(value.size for value in values)


def load_weights(
    backbone: Backbone | Trunk, model: "keras.Model", weights: str
) -> dict[str, str] | str:
    """Fill the backbone of `model`, which takes our inputs; return what identifies the weights.

    A trunk has built the model with them. Raises EdgecifarError that says where to put or find a
    file that is missing.
    """
    import tf_keras as keras

    from edgecifar.train.files import sha256

    if weights == "none":
        return weights
    if run := source_run(weights):
        if not isinstance(backbone, Trunk):
            _load_from_run(backbone, model, run)
        return {"file": run.name, "sha256": run.digest}
    path = None if weights == "imagenet" else Path(weights)
    features = keras.Model(model.input, backbone.layers(model)[-1].output)
    file = backbone.load_imagenet(features, path)
    backbone.adapt_stem(model)
    return {"file": file.name, "sha256": sha256(file)}


def _load_from_run(backbone: Backbone, model: "keras.Model", run: Run) -> None:
    trained = {layer.name: layer for layer in run.load_model().layers}
    try:
        for layer in backbone.layers(model):
            layer.set_weights(trained[layer.name].get_weights())
    except (KeyError, ValueError) as error:
        raise EdgecifarError(
            f"{run.path} was pruned or quantized: give the float run it came from"
        ) from error


def freeze(backbone: Backbone | Trunk, model: "keras.Model", transfer: Transfer) -> None:
    """Let only the head and the backbone's last layers learn, as `transfer` says.

    Frozen batch normalisation keeps ImageNet's statistics, those of a small batch being poorer.
    """
    import tf_keras as keras

    if transfer.weights == "none":
        return
    own = backbone.layers(model)
    for index, layer in enumerate(own):
        norm = isinstance(layer, keras.layers.BatchNormalization)
        learns = index >= len(own) - transfer.unfreeze and layer.name != SHIFT
        layer.trainable = learns and not (norm and transfer.batch_norm == "frozen")


def thaw(model: "keras.Model") -> None:
    """Let everything learn again but what never does, the scale of an adopted model's pixels."""
    model.trainable = True
    for layer in model.layers:
        layer.trainable = layer.name != SHIFT
