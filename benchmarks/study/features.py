"""What a system is made of, read off its network and its recipe."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.benchmarks import words
from edgecifar.benchmarks.recipe import Recipe

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

NONE = "none"
_MOST_RATES = 5  # of dropout, named one by one


def features(recipe: Recipe, dataset: "Dataset") -> dict[str, str | int]:
    """Return parameters, MACs and what a reader compares systems by, as words."""
    from edgecifar.train.macs import count_macs

    model = _build(recipe, dataset)
    size = {"parameters": model.count_params(), "macs": count_macs(model)}
    return size | of_network(model) | of_images(recipe, dataset) | of_training(recipe)


def of_network(model: "keras.Model") -> dict[str, str]:
    """Describe a network by the kinds of its layers."""
    from tf_keras import layers

    found = Counter(type(layer) for layer in model.layers)
    dropped = [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)]
    pools = {
        "max": found[layers.MaxPooling2D],
        "average": found[layers.AveragePooling2D],
        "global average": found[layers.GlobalAveragePooling2D],
    }
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    penalised = [layer for layer in model.layers if getattr(layer, "kernel_regularizer", None)]
    return {
        "convolutions": _convolutions(model),
        "batch normalisation": _counted(found[layers.BatchNormalization], "layer"),
        "skip connections": _counted(found[layers.Add], "addition"),
        "pooling": _listed(name for name, count in pools.items() if count),
        "dropout": _rates(list(dict.fromkeys(dropped))),
        "dense units": _listed(str(layer.units) for layer in dense),
        "L2": _listed(f"{layer.kernel_regularizer.l2:g}" for layer in penalised),
    }


def of_images(recipe: Recipe, dataset: "Dataset") -> dict[str, str]:
    """Describe the pixels that a network sees."""
    from edgecifar.train.models.backbone import enlargement

    size = dataset.image_size
    told = "x".join(map(str, size))
    if (factor := enlargement(size, _backbone_size(recipe, size))) > 1:
        told += f", enlarged to {'x'.join(str(factor * side) for side in size)}"
    return {"input": told}


def of_training(recipe: Recipe) -> dict[str, str]:
    """Describe how a network is trained."""
    train = recipe.train
    stop = f", stops after {train.early_stopping} without gain" if train.early_stopping else ""
    return {
        "start": _start(recipe),
        "phases": _phases(recipe),
        "augmentation": _augmentation(recipe),
        "optimizer": f"{train.optimizer}, {train.learning_rate:g} {train.schedule}",
        "batch": str(train.batch_size),
        "epochs at most": f"{train.epochs}{stop}",
        "weight decay": f"{train.weight_decay:g}" if train.weight_decay else NONE,
        "label smoothing": f"{train.label_smoothing:g}" if train.label_smoothing else NONE,
        "averaged weights": f"{train.ema:g}" if train.ema else NONE,
        "to int8": f"{words.number(recipe.quantize.epochs, 'epoch')} of fine-tuning"
        if recipe.fine_tune_int8
        else "after training",
    }


def _phases(recipe: Recipe) -> str:
    if not recipe.transfer or recipe.transfer.weights == "none":
        return "one"
    head, layers = recipe.transfer.head, recipe.transfer.unfreeze
    return (
        f"a head by adam, {head.learning_rate:g}, batch {head.batch_size}, {head.epochs} epochs; "
        f"then, as below, the last {layers} layers too"
    )


def _start(recipe: Recipe) -> str:
    source = recipe.transfer.weights if recipe.transfer else "none"
    known = {"none": "random weights", "imagenet": "ImageNet weights"}
    return known.get(source) or f"weights of {Path(source).name}"


def _build(recipe: Recipe, dataset: "Dataset") -> "keras.Model":
    from edgecifar.train import models

    known, size = models.find(recipe.architecture), dataset.image_size
    enlarged = _backbone_size(recipe, size)
    how = {"backbone_size": enlarged} if enlarged else {}
    return known.deployed(known.build(size, len(dataset.classes), **how))


def _backbone_size(recipe: Recipe, image_size: tuple[int, int]) -> int:
    """Return to what a network enlarges images itself, 0 for one that doesn't."""
    from edgecifar.train import models

    if not (recipe.transfer and models.find(recipe.architecture).backbone):
        return 0
    return recipe.transfer.for_images(image_size).backbone_size


def _rates(rates: Sequence[float]) -> str:
    if len(rates) > _MOST_RATES:  # a backbone drops a little more at each of its layers
        return f"{min(rates):.2g} to {max(rates):.2g}, {len(rates)} rates"
    return _listed(f"{rate:g}" for rate in rates)


def _convolutions(model: "keras.Model") -> str:
    from tf_keras import layers

    deep = sum(isinstance(layer, layers.DepthwiseConv2D) for layer in model.layers)
    plain = sum(type(layer) is layers.Conv2D for layer in model.layers)
    return f"{plain}, {deep} depthwise" if deep else str(plain)


def _augmentation(recipe: Recipe) -> str:
    change = recipe.train.augment
    told = {
        "flips": change.flip != "none",
        f"crops by {change.crop} px": change.crop,
        f"shifts by {change.shift:.0%}": change.shift,
        f"rotation by {change.rotation:g}°": change.rotation,
        f"cutout of {change.cutout} px": change.cutout,
        f"mixup {change.mixup:g}": change.mixup,
        f"cutmix in {change.cutmix:.0%} of images": change.cutmix,
    }
    return _listed(text for text, used in told.items() if used)


def _counted(count: int, what: str) -> str:
    return words.number(count, what) if count else NONE


def _listed(texts) -> str:
    return ", ".join(texts) or NONE
