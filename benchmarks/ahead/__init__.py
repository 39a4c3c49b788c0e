"""Recipes whose float models are trained where there is JAX but no TensorFlow, and brought back.

A package is a folder to be copied there and back: programs that TensorFlow compiled here, what
they start from, the images, and the script that carries them out.
"""

from pathlib import Path
from typing import Any

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.recipe import Recipe

PLAN = "plan.json"  # what a package holds


def called(name: str, recipe: Recipe) -> str:
    """Return what the fit of a recipe, a name or a TOML file, is called: as `run`'s folder."""
    return recipes.folder_name(name, seed=recipe.seed)


def settled_by(recipe: Recipe) -> dict[str, Any]:
    """Return, as JSON has it, what of a recipe its float model depends on."""
    told = recipe.identity.as_json()
    taught = ("distil", "teachers") if recipe.teachers else ()
    return {key: told[key] for key in ("architecture", "seed", "train", *taught)}


def place(name: str, recipe: Recipe, root: Path) -> Path:
    """Return the folder under `root` in which `run` looks for a recipe's float model."""
    return root / called(name, recipe) / recipe.architecture
