"""Studies: recipes side by side, each with several seeds, and an ablation, in one result.

A study is a TOML file whose name ends in `-study`. Its members are recipes and lie where
`edgecifar run RECIPE --seed N` puts them, so that what was carried out alone is not repeated.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.recipe import did_you_mean, from_mapping, require_seed
from edgecifar.train.run import RunDiffersError

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

ABLATION = "ablation"  # what `--only` calls all of its recipes


@dataclass(frozen=True)
class Member:
    """A recipe, the seeds to repeat it with, and the top-1 in percent that others report.

    Recipes that answer to the same reported model name that `system`.
    """

    recipe: str
    label: str
    reported: float | None = None
    seeds: tuple[int, ...] = (0,)
    note: str = ""
    system: str = ""

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
        seed = f" --seed {self.recipe.seed}" if self.recipe.seed else ""
        quick = " --quick" if self.recipe.quick else ""
        return f"edgecifar run {self.name}{seed}{quick} --out {self.folder} --force"


@dataclass(frozen=True)
class StudyOutcome:
    """Where a study's result lies, and why what is missing of it could not be carried out."""

    result: Path
    report: Path
    failures: dict[str, str]


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


def carry_out(
    study: Study,
    dataset: "Dataset",
    out: Path,
    *,
    name: str,
    only: Sequence[str] = (),
    quick: bool = False,
    earlier: Path | None = None,
) -> StudyOutcome:
    """Carry out what is unfinished of `study` and write `out`/`name`.json and report.html.

    Recipes have folders of their own beside `out`. With `only`, recipes' names, the others are
    taken as they are, and those that were never begun are listed as not run. `earlier` is a result
    of the same study that fills in what isn't there. A recipe that fails doesn't stop the others,
    nor does a folder that another recipe made: what is there already is looked at first.

    The result is written after each recipe, so that a killed study leaves what it had.
    """
    from edgecifar.benchmarks.study_result import Collection

    todo = tasks(study, out.parent, quick=quick)
    chosen = _chosen(study, todo, only)
    collection = Collection(study, todo, dataset, out / f"{name}.json", earlier)
    for task in (task for key in todo if key not in chosen for task in todo[key]):
        if task.bench.exists() and not task.is_finished(dataset):
            click.echo(f"{task.folder.name} isn't what its recipe makes now: not read", err=True)
    failures = {}
    for task in sorted((task for key in chosen for task in todo[key]), key=_order):
        if task.is_finished(dataset):
            continue
        if failed := _attempt(task, dataset):
            failures[task.folder.name] = failed
            click.echo(f"left out: {failed}", err=True)
        collection.write()
    collection.measure()
    return StudyOutcome(collection.path, _report(collection, dataset, out), failures)


def _order(task: Task) -> tuple[bool, bool]:
    """Sort what was finished once, maybe otherwise, before what takes long, and seed 0 first."""
    return not task.bench.exists(), task.recipe.seed > 0


def _attempt(task: Task, dataset: "Dataset") -> str | None:
    """Carry out what is unfinished of `task`; return why it can't be, on one line."""
    from edgecifar.benchmarks.pipeline import run_recipe

    click.echo(f"{task.folder.name}:", err=True)
    try:
        run_recipe(task.recipe, dataset, task.folder)
    except RunDiffersError as error:
        return f"{error} (`{task.anew}`)"
    except EdgecifarError as error:
        return str(error)
    except Exception as error:  # memory, a full disk: the others may do with less
        return f"{task.folder.name}: {type(error).__name__} ({' '.join(str(error).split())[:300]})"
    return None


def _report(collection, dataset: "Dataset", out: Path) -> Path:
    from edgecifar.benchmarks.report.grid import sample_rows
    from edgecifar.benchmarks.report.study_page import build_study_report

    return build_study_report(
        collection.path,
        collection.run_folders(),
        out / "report.html",
        images=dataset.test.images,
        samples=sample_rows(dataset),
        force=True,
    )


def _task(name: str, seed: int, root: Path, *, quick: bool) -> Task:
    recipe = dataclasses.replace(recipes.read(name), seed=seed)
    folder = recipes.folder_name(name, quick=quick, seed=seed)
    return Task(name, recipe.shortened() if quick else recipe, root / folder)


def _chosen(study: Study, todo: dict[str, tuple[Task, ...]], only: Sequence[str]) -> list[str]:
    """Return the recipes that `--only` names, all without it."""
    known = {Path(name).stem: [name] for name in todo}
    known |= {ABLATION: [step.recipe for step in study.ablation]}
    for name in only:
        if Path(name).stem not in known:
            raise EdgecifarError(f"--only {name!r} is not in this study{did_you_mean(name, known)}")
    picked = [name for one in only for name in known[Path(one).stem]]
    return list(dict.fromkeys(picked or todo))
