"""Whole recipes: everything that `edgecifar run` does, as one file states it."""

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from edgecifar.compress.quantize import Quantization
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.recipe import Training, did_you_mean, from_mapping, read_toml


@dataclass(frozen=True)
class Recipe:
    """A run from images to report.

    `export` names the formats of the float model, `quantize.epochs` how long the int8 file is
    prepared for; every file is benchmarked against the first format.
    """

    architecture: str
    title: str
    train: Training = field(default_factory=Training)
    quantize: Quantization = field(default_factory=Quantization)
    export: tuple[str, ...] = ("float32", "int8", "onnx")
    seed: int = 0
    threads: int = 1  # of the benchmark


def names() -> tuple[str, ...]:
    """Return the names of the recipes that come with edgecifar."""
    folder = files("edgecifar.benchmarks") / "recipes"
    return tuple(
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
    )


def read(name: str) -> Recipe:
    """Read a recipe by its name, or from a TOML file of the user's own."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise EdgecifarError(f"{name} is missing: give a recipe's file or one of its names")
        text = path.read_text(encoding="utf-8")
    elif name in names():
        text = (files("edgecifar.benchmarks") / "recipes" / f"{name}.toml").read_text("utf-8")
    else:
        raise EdgecifarError(f"unknown recipe {name!r}{did_you_mean(name, names())}")
    return from_mapping(Recipe, read_toml(text, where=name))
