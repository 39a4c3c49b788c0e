"""Recipes: frozen, self-validating settings, read from TOML that states only what differs."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from edgecifar.runtime.errors import EdgecifarError

T = TypeVar("T")

LARGEST_SEED = 2**32 - 1  # that NumPy takes
_MOST_FOR_ADAM = 0.05  # its steps don't shrink with the gradient
_STEPS = 20  # an epoch has at least so many, where there are few images
_LEAST_BATCH = 8  # fewer images tell batch normalisation little


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image; all zero means none."""

    flip: Literal["none", "random", "alternating"] = "random"
    crop: int = 4  # pixels: translation by whole pixels, edges reflected
    shift: float = 0.0  # fraction of the image size: translation with interpolation
    rotation: float = 0.0  # degrees to either side
    cutout: int = 0  # pixels: edge of a square set to mid-grey
    mixup: float = 0.0  # alpha of the Beta distribution that blends pairs of images

    def __post_init__(self) -> None:
        _require(self.crop >= 0, "augment.crop", self.crop, "0 or more pixels")
        _require(0 <= self.shift < 1, "augment.shift", self.shift, "a fraction from 0 to 1")
        _require(0 <= self.rotation <= 180, "augment.rotation", self.rotation, "0 to 180 degrees")
        _require(self.cutout >= 0, "augment.cutout", self.cutout, "0 or more pixels")
        _require(self.mixup >= 0, "augment.mixup", self.mixup, "0 or more")


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
        _require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        if self.optimizer != "sgd" and self.learning_rate > _MOST_FOR_ADAM:
            raise EdgecifarError(
                f"learning_rate is {self.learning_rate:g}, which suits SGD: with {self.optimizer} "
                f"give {_MOST_FOR_ADAM:g} or less, such as 0.001"
            )
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "a fraction from 0 to 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 to 1")
        _require(0 <= self.ema < 1, "ema", self.ema, "a decay from 0 to 1")
        _require(self.early_stopping >= 0, "early_stopping", self.early_stopping, "0 or more")

    def fine_tuning(
        self, *, epochs: int, learning_rate: float | None, usual: float, ema: float
    ) -> "Training":
        """Return these settings for going on with a trained model.

        The rate falls as a cosine from the first step. Where none is given it is the `usual` one
        of SGD, of which Adam takes a hundredth: its steps don't shrink with the gradient.
        """
        if learning_rate is None:
            learning_rate = usual if self.optimizer == "sgd" else usual / 100
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

    The rate of SGD falls with them, unless it is the user's own. Batches of 8 are the smallest.
    """
    most = max(_LEAST_BATCH, 2 ** (max(1, count // _STEPS).bit_length() - 1))
    if settings.batch_size <= most:
        return settings
    rate = settings.learning_rate
    if settings.optimizer == "sgd" and not rate_given:
        rate *= most / settings.batch_size
    return dataclasses.replace(settings, batch_size=most, learning_rate=rate)


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass `kind` from plain values, naming the key of any that does not fit.

    Nested dataclasses are built from nested mappings; keys that are left out keep their defaults.
    `where` is the dotted path that error messages put before a key.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in mapping.items():
        if key not in hints:
            raise EdgecifarError(f"unknown setting {where}{key}{did_you_mean(key, hints)}")
        values[key] = _convert(hints[key], value, f"{where}{key}")
    try:
        return kind(**values)
    except TypeError as error:  # a field without a default was left out
        raise EdgecifarError(f"{where or kind.__name__}: {error}") from error


def override(settings: T, assignments: Mapping[str, Any]) -> T:
    """Return `settings` with dotted keys such as `augment.flip` replaced."""
    tree = dataclasses.asdict(settings)
    for dotted, value in assignments.items():
        *parents, leaf = dotted.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent)
            if not isinstance(node, dict):
                raise EdgecifarError(f"unknown setting {dotted}{did_you_mean(dotted, tree)}")
        node[leaf] = value
    return from_mapping(type(settings), tree)


def parse_assignments(texts: tuple[str, ...]) -> dict[str, Any]:
    """Parse `key=value` texts, with values as TOML writes them (bare words count as strings)."""
    assignments = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise EdgecifarError(f"{text!r} is not of the form key=value")
        assignments[key.strip()] = _toml_value(value.strip())
    return assignments


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """Return a clause that names the nearest of `known`, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(names)}"


def read_toml(text: str, *, where: str) -> dict[str, Any]:
    """Parse TOML, with the file's name in the one-line error."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EdgecifarError(f"{where} is not valid TOML: {error}") from error


def _toml_value(text: str) -> Any:
    try:
        return read_toml(f"value = {text}", where="value")["value"]
    except EdgecifarError:
        return text


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check a plain value against a type hint; int is accepted for float, as TOML users expect."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return from_mapping(hint, value, where=f"{where}.")
        raise EdgecifarError(f"{where} is a table of settings, not {value!r}")
    if origin is Literal:
        choices = typing.get_args(hint)
        _require(value in choices, where, value, "one of " + ", ".join(map(str, choices)))
        return value
    if origin in (types.UnionType, typing.Union):
        inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return None if value is None else _convert(inner[0], value, where)
    if origin is tuple:
        _require(isinstance(value, list | tuple), where, value, "a list")
        return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    _require(
        type(value) is hint,
        where,
        value,
        {int: "a whole number", str: "a text", float: "a number", bool: "true or false"}[hint],
    )
    return value


def require_seed(seed: int) -> None:
    """Raise EdgecifarError unless it is a seed that every random generator takes."""
    _require(0 <= seed <= LARGEST_SEED, "seed", seed, f"0 to {LARGEST_SEED}")


def _require(condition: bool, key: str, value: Any, expected: str) -> None:
    if not condition:
        raise EdgecifarError(f"{key} is {value!r}: it must be {expected}")
