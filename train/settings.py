"""How a model is trained: frozen settings that check themselves."""

import dataclasses
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import require

LARGEST_SEED = 2**32 - 1  # that NumPy takes
_MOST_FOR_ADAM = 0.05  # its steps don't shrink with the gradient
_STEPS = 20  # an epoch has at least so many, where there are few images
_LEAST_BATCH = 8  # fewer images tell batch normalisation little
_SIZE = 32  # pixels: the images that the defaults suit
_MOST_PIXELS = 256 * 64 * 64  # a batch has: what a network makes of more takes many GB


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image; all zero means none."""

    flip: Literal["none", "random", "alternating"] = "random"
    crop: int = 4  # pixels: translation by whole pixels, edges reflected
    shift: float = 0.0  # fraction of the image size: translation with interpolation
    rotation: float = 0.0  # degrees to either side
    cutout: int = 0  # pixels: edge of a square set to mid-grey
    mixup: float = 0.0  # alpha of the Beta distribution that blends pairs of images
    cutmix: float = 0.0  # share of the images into which a part of another is pasted

    def __post_init__(self) -> None:
        require(self.crop >= 0, "augment.crop", self.crop, "0 or more pixels")
        require(0 <= self.shift < 1, "augment.shift", self.shift, "a fraction from 0 to 1")
        require(0 <= self.rotation <= 180, "augment.rotation", self.rotation, "0 to 180 degrees")
        require(self.cutout >= 0, "augment.cutout", self.cutout, "0 or more pixels")
        require(self.mixup >= 0, "augment.mixup", self.mixup, "0 or more")
        require(0 <= self.cutmix <= 1, "augment.cutmix", self.cutmix, "a fraction from 0 to 1")


@dataclass(frozen=True)
class Training:
    """How a model is fitted. The defaults suit small residual nets on 32x32 images."""

    epochs: int = 80
    batch_size: int = 256
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.4  # the peak
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.15  # fraction of all steps in which the rate rises from zero
    weight_decay: float = 0.002  # decoupled: each step shrinks kernels by rate x decay
    label_smoothing: float = 0.0
    ema: float = 0.0  # decay of the averaged weights that are validated and kept; 0 is off
    early_stopping: int = 0  # epochs without a better validation accuracy; 0 is off
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        if self.optimizer != "sgd" and self.learning_rate > _MOST_FOR_ADAM:
            raise EdgecifarError(
                f"learning_rate is {self.learning_rate:g}, which suits SGD: with {self.optimizer} "
                f"give {_MOST_FOR_ADAM:g} or less, such as 0.001"
            )
        require(0 <= self.warmup < 1, "warmup", self.warmup, "a fraction from 0 to 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 to 1")
        require(0 <= self.ema < 1, "ema", self.ema, "a decay from 0 to 1")
        require(self.early_stopping >= 0, "early_stopping", self.early_stopping, "0 or more")

    def fine_tuning(
        self, *, epochs: int, learning_rate: float | None, usual: float, ema: float
    ) -> "Training":
        """Return these settings for going on with a trained model.

        The rate falls as a cosine from the first step. Where none is given it is the `usual` one
        of SGD for 256 images a batch, and falls with smaller batches. Adam takes a hundredth of
        that, whatever the batch: its steps don't shrink with the gradient.
        """
        if learning_rate is None:
            of_batch = min(1, self.batch_size / Training.batch_size)
            learning_rate = usual * (of_batch if self.optimizer == "sgd" else 0.01)
        return dataclasses.replace(
            self,
            epochs=epochs,
            learning_rate=learning_rate,
            ema=ema,
            warmup=0.0,
            schedule="cosine",
            early_stopping=0,
        )


def for_few_images(settings: Training, count: int, *, rate_given: bool = False) -> Training:
    """Return `settings` with batches so small that an epoch of `count` images has 20 steps.

    The rate of SGD falls with them, unless it is the user's own. Batches of 8 are the smallest,
    but for fewer images.
    """
    most = min(count, _batch_within(count // _STEPS))
    return _in_batches_of(settings, most, rate_given=rate_given)


def for_large_images(
    settings: Training, image_size: tuple[int, int], *, rate_given: bool = False
) -> Training:
    """Return `settings` with batches of at most as many pixels as 256 images of 64x64 have.

    The rate and the smallest batches are those of `for_few_images`.
    """
    most = _batch_within(_MOST_PIXELS // prod(image_size))
    return _in_batches_of(settings, most, rate_given=rate_given)


def with_wider_crops(settings: Training, image_size: tuple[int, int]) -> Training:
    """Return `settings` with crops that are as large a part of larger images as of 32x32."""
    crop = settings.augment.crop * max(_SIZE, min(image_size)) // _SIZE
    return dataclasses.replace(settings, augment=dataclasses.replace(settings.augment, crop=crop))


def _batch_within(images: int) -> int:
    return max(_LEAST_BATCH, 2 ** (max(1, images).bit_length() - 1))


def _in_batches_of(settings: Training, most: int, *, rate_given: bool) -> Training:
    if settings.batch_size <= most:
        return settings
    rate = settings.learning_rate
    if settings.optimizer == "sgd" and not rate_given:
        rate *= most / settings.batch_size
    return dataclasses.replace(settings, batch_size=most, learning_rate=rate)


def require_seed(seed: int) -> None:
    """Raise EdgecifarError unless it is a seed that every random generator takes."""
    require(0 <= seed <= LARGEST_SEED, "seed", seed, f"0 to {LARGEST_SEED}")
