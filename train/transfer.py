"""Transfer learning in two phases: a head on frozen features, then the last layers with it."""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.models.backbone import Backbone, enlargement, usual_size
from edgecifar.train.recipe import Augmentation, Training
from edgecifar.train.run import Run, open_run, start_run

if TYPE_CHECKING:
    import tf_keras as keras

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
        self.settings(self.batch_size)

    def settings(self, images: int) -> Training:
        """Return these as settings of a fit to `images` images, which may be few."""
        return Training(
            epochs=self.epochs,
            batch_size=min(self.batch_size, max(1, images // 4)) if images else self.batch_size,
            optimizer="adam",
            learning_rate=self.learning_rate,
            schedule="constant",
            warmup=0.0,
            weight_decay=0.0,
            early_stopping=self.early_stopping,
            precision="float32",
            augment=Augmentation(flip="none", crop=0),
        )


@dataclass(frozen=True)
class Transfer:
    """Where a backbone's weights come from, and how much of it learns on.

    `weights` is `imagenet`, a file of weights as published, the folder of a finished run of the
    same architecture, or `none`, with which everything is trained at once from random weights.
    """

    weights: str = "imagenet"
    backbone_size: int | None = None  # pixels; None: the first multiple of the images' from 96 on
    unfreeze: int = 50  # last layers of the backbone that are fine-tuned; 0 leaves it frozen
    batch_norm: Literal["frozen", "trained"] = "frozen"
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        if self.unfreeze < 0:
            raise EdgecifarError(f"unfreeze is {self.unfreeze}: it must be 0 or more layers")
        if self.backbone_size is not None and self.backbone_size < 0:
            raise EdgecifarError(f"backbone_size is {self.backbone_size}: it must be 0 or more")

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

    `settings` are those of the second phase. Each phase keeps its checkpoints (the first in the
    subfolder `head`), so that a killed run goes on in either.
    """
    from edgecifar.train.devices import start_strategy
    from edgecifar.train.features import fit_head
    from edgecifar.train.loop import apply_precision, require_batches
    from edgecifar.train.session import finish, fit_built, seeded_build

    require_batches(dataset, settings)
    devices = start_strategy(strategy, batch_size=settings.batch_size)
    transfer = transfer.for_images(dataset.image_size)
    known = _find(architecture, transfer)
    apply_precision("float32")
    model = seeded_build(known, dataset, seed)
    source = load_weights(known.backbone, model, transfer.weights)
    identity = {
        "stage": "train",
        "architecture": architecture,
        "recipe": dataclasses.asdict(settings),
        "transfer": dataclasses.asdict(transfer) | {"weights": source},
        "seed": seed,
        "parent": None,
    }
    run = start_run(out, identity, dataset, force=force)
    if transfer.weights != "none":
        head = transfer.head.settings(len(dataset.train))
        result = fit_head(known.backbone, model, dataset, head, run.path, seed=seed)
        run.update(head={"epochs": len(result.history), "train_seconds": round(result.seconds, 1)})
    if transfer.weights == "none" or transfer.unfreeze:
        weights = model.get_weights()

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
    model.trainable = True  # a file remembers what was frozen, and later stages train everything
    finish(run, model, dataset, result)
    for features in (run.path / "head").glob("features-*.npy"):
        features.unlink()
    return run


def _find(architecture: str, transfer: Transfer) -> models.Architecture:
    known = models.find(architecture)
    if known.backbone is None:
        able = [name for name in models.names() if models.find(name).backbone]
        raise EdgecifarError(
            f"there are no pretrained weights for {architecture}: choose from {', '.join(able)}"
        )
    build = partial(known.build, backbone_size=transfer.backbone_size)
    return dataclasses.replace(known, build=build)


def load_weights(backbone: Backbone, model: "keras.Model", weights: str) -> dict[str, str] | str:
    """Fill the backbone of `model`, which takes our inputs; return what identifies the weights.

    Raises EdgecifarError that says where to put or find a file that is missing.
    """
    import tf_keras as keras

    from edgecifar.train.pretrained import sha256

    if weights == "none":
        return weights
    if weights != "imagenet" and Path(weights).is_dir():
        return _load_from_run(backbone, model, open_run(Path(weights)))
    path = None if weights == "imagenet" else Path(weights)
    features = keras.Model(model.input, backbone.layers(model)[-1].output)
    file = backbone.load_imagenet(features, path)
    backbone.adapt_stem(model)
    return {"file": file.name, "sha256": sha256(file)}


def _load_from_run(backbone: Backbone, model: "keras.Model", run: Run) -> dict[str, str]:
    from edgecifar.train.pretrained import sha256

    if run.info["architecture"] != backbone.name:
        raise EdgecifarError(
            f"{run.path} is a run of {run.info['architecture']}, not of {backbone.name}"
        )
    trained = {layer.name: layer for layer in run.load_model().layers}
    try:
        for layer in backbone.layers(model):
            layer.set_weights(trained[layer.name].get_weights())
    except (KeyError, ValueError) as error:
        raise EdgecifarError(
            f"{run.path} was pruned or quantized: give the float run it came from"
        ) from error
    return {"file": run.name, "sha256": sha256(run.path / "model.h5")}


def freeze(backbone: Backbone, model: "keras.Model", transfer: Transfer) -> None:
    """Let only the head and the backbone's last layers learn, as `transfer` says.

    Frozen batch normalisation keeps ImageNet's statistics, those of a small batch being poorer.
    """
    import tf_keras as keras

    if transfer.weights == "none":
        return
    own = backbone.layers(model)
    for index, layer in enumerate(own):
        norm = isinstance(layer, keras.layers.BatchNormalization)
        learns = index >= len(own) - transfer.unfreeze
        layer.trainable = learns and not (norm and transfer.batch_norm == "frozen")
