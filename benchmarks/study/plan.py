"""What a study compares: recipes side by side, each with several seeds, and an ablation.

A study is a TOML file whose name ends in `-study`. Its members are recipes and lie where
`edgecifar run RECIPE --seed N` puts them, so that what was carried out alone is not repeated.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import from_mapping
from edgecifar.train.settings import require_seed

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset


@dataclass(frozen=True)
class Member:
    """A recipe, the seeds to repeat it with, and the top-1 in percent that others report.

    `asked` is the top-1 in percent that our float model was to reach, `tried` what was done for it
    so far, as a sentence. A recipe `stands_in` whose architecture is not the reported one.
    """

    recipe: str
    label: str
    reported: float | None = None
    asked: float | None = None
    tried: str = ""
    seeds: tuple[int, ...] = (0,)
    note: str = ""
    stands_in: bool = False

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise EdgecifarError(f"seeds of {self.recipe} are {self.seeds}: give each once")
        for seed in self.seeds:
            require_seed(seed)


@dataclass(frozen=True)
class Step:
    """A row of the ablation: what it changes of the row before.

    With `int8` the row is the int8 file of its recipe, without it the float model.
    """

    recipe: str
    change: str
    int8: bool = False


@dataclass(frozen=True)
class Study:
    """What is compared; `note` is what readers of its table must know."""

    title: str
    members: tuple[Member, ...]
    ablation: tuple[Step, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        named = [member.recipe for member in self.members]
        if not named or len(set(named)) < len(named):
            raise EdgecifarError(f"members are {', '.join(named) or 'none'}: name each recipe once")


@dataclass(frozen=True)
class Task:
    """One recipe with one seed, and the folder that its results have."""

    name: str
    recipe: Recipe
    folder: Path

    @property
    def bench(self) -> Path:
        """The last that is written of a recipe's results, but for the report."""
        return self.folder / "bench.json"

    def is_finished(self, dataset: "Dataset") -> bool:
        """Tell whether all of it was carried out on `dataset`, and as the recipe is now."""
        from edgecifar.benchmarks.pipeline import is_finished

        return is_finished(self.is_made_by, dataset, self.folder)

    def is_made_by(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether a recipe, as JSON has it, makes what a study shows of this one."""
        return self.recipe.is_that_of(settings, variants=False)

    @property
    def anew(self) -> str:
        """The command that makes it anew, whatever stands there."""
        own = recipes.read(self.name).seed
        seed = f" --seed {self.recipe.seed}" if self.recipe.seed != own else ""
        quick = " --quick" if self.recipe.quick else ""
        return f"edgecifar run {self.name}{seed}{quick} --out {self.folder} --force"


def names() -> tuple[str, ...]:
    """Return the names of the studies that come with edgecifar."""
    return tuple(filter(recipes.is_study, recipes.shipped_names()))


def read(name: str) -> Study:
    """Read a study by its name, or from a TOML file; recipes' files are sought beside that."""
    path = Path(name)
    study = from_mapping(Study, recipes.stated(name, "study", names()))

    def beside(part: Member | Step) -> Member | Step:
        file = part.recipe.endswith(".toml")
        return dataclasses.replace(part, recipe=str(path.parent / part.recipe)) if file else part

    return dataclasses.replace(
        study,
        members=tuple(map(beside, study.members)),
        ablation=tuple(map(beside, study.ablation)),
    )


def tasks(study: Study, root: Path, *, quick: bool = False) -> dict[str, tuple[Task, ...]]:
    """Return what each recipe of `study` has to be carried out with, seed by seed."""
    wanted = {member.recipe: member.seeds for member in study.members}
    for step in study.ablation:  # which compares its rows by seed 0
        wanted[step.recipe] = tuple(dict.fromkeys((0, *wanted.get(step.recipe, ()))))
    return {
        name: tuple(_task(name, seed, root, quick=quick) for seed in seeds)
        for name, seeds in wanted.items()
    }


def _task(name: str, seed: int, root: Path, *, quick: bool) -> Task:
    recipe = dataclasses.replace(recipes.read(name), seed=seed)
    folder = recipes.folder_name(name, quick=quick, seed=seed)
    return Task(name, recipe.shortened() if quick else recipe, root / folder)
