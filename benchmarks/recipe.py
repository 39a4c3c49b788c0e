"""Whole recipes: everything that `edgecifar run` does, as one file states it."""

from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from edgecifar.compress.distil import Distillation
from edgecifar.compress.quantize import Quantization
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.recipe import Training, did_you_mean, from_mapping, read_toml
from edgecifar.train.transfer import Transfer


@dataclass(frozen=True)
class Recipe:
    """A run from images to report.

    `transfer` starts from pretrained weights, and `train` are then the settings of its second
    phase. `export` names the formats of the float model, `quantize.epochs` how long the int8 file
    is prepared for; every file is benchmarked against the first format.

    `teachers` are other recipes, names or TOML files beside this one: their float models are
    trained first, in folders beside this recipe's, and teach both the float and the int8 model.
    """

    architecture: str
    title: str
    train: Training = field(default_factory=Training)
    transfer: Transfer | None = None
    teachers: tuple[str, ...] = ()
    distil: Distillation = field(default_factory=Distillation)
    fine_tune_int8: bool = True  # false for networks that the quantization toolkit can't take
    quantize: Quantization = field(default_factory=Quantization)
    export: tuple[str, ...] = ("float32", "int8", "onnx")
    seed: int = 0
    threads: int = 1  # of the benchmark
    quick: bool = False  # one epoch a stage, to see whether all of it works

    def shortened(self) -> "Recipe":
        """Return this with one epoch a stage, for its teachers too."""
        return replace(
            self,
            quick=True,
            train=replace(self.train, epochs=1),
            quantize=replace(self.quantize, epochs=1),
        )


def names() -> tuple[str, ...]:
    """Return the names of the recipes that come with edgecifar."""
    folder = files("edgecifar.benchmarks") / "recipes"
    return tuple(
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
    )


def folder_name(name: str, *, quick: bool) -> str:
    """Return what the folder of a recipe's results is called."""
    return Path(name).stem + ("-quick" if quick else "")


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
    recipe = from_mapping(Recipe, read_toml(text, where=name))
    beside = (str(path.parent / t) if t.endswith(".toml") else t for t in recipe.teachers)
    return replace(recipe, teachers=tuple(beside))
