"""Carry out a study: each of its recipes with each seed, into one result and its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.benchmarks.study.plan import Study, Task, tasks
from edgecifar.benchmarks.study.result import Collection
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import did_you_mean
from edgecifar.train.run import RunDiffersError

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

ABLATION = "ablation"  # what `--only` calls all of its recipes
NONE = "none"  # and none of the study's, to write its result and page anew


@dataclass(frozen=True)
class StudyOutcome:
    """Where a study's result lies, and why what is missing of it could not be carried out."""

    result: Path
    report: Path
    failures: dict[str, str]


def carry_out(
    study: Study,
    dataset: "Dataset",
    out: Path,
    *,
    name: str,
    only: Sequence[str] = (),
    quick: bool = False,
    earlier: Path | None = None,
    source: str = "",
) -> StudyOutcome:
    """Carry out what is unfinished of `study` and write `out`/`name`.json and report.html.

    Recipes have folders of their own beside `out`. With `only`, recipes' names, the others are
    taken as they are, and those that were never begun are listed as not run: "none" carries out
    and times nothing and writes all anew. `earlier` is a result of the same study that fills in
    what isn't there. A recipe that fails doesn't stop the others, nor does a folder that another
    recipe made: what is there already is looked at first.

    `source` are the options that chose `dataset`, for the command that makes a folder anew. The
    result is written after each recipe, so that a killed study leaves what it had.
    """
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
        if failed := _attempt(task, dataset, source):
            failures[task.folder.name] = failed
            click.echo(f"left out: {failed}", err=True)
        collection.write()
    if chosen:
        collection.measure()
    else:
        collection.write()
    return StudyOutcome(collection.path, _report(collection, dataset, out), failures)


def _order(task: Task) -> tuple[bool, bool]:
    """Sort what was finished once, maybe otherwise, before what takes long, and seed 0 first."""
    return not task.bench.exists(), task.recipe.seed > 0


def _attempt(task: Task, dataset: "Dataset", source: str) -> str | None:
    """Carry out what is unfinished of `task`; return why it can't be, on one line."""
    from edgecifar.benchmarks.pipeline import run_recipe

    click.echo(f"{task.folder.name}:", err=True)
    try:
        run_recipe(task.recipe, dataset, task.folder)
    except RunDiffersError as error:
        return f"{error} (`{task.anew}{source}`)"
    except EdgecifarError as error:
        return str(error)
    except Exception as error:  # memory, a full disk: the others may do with less
        return f"{task.folder.name}: {type(error).__name__} ({' '.join(str(error).split())[:300]})"
    return None


def _report(collection: Collection, dataset: "Dataset", out: Path) -> Path:
    from edgecifar.benchmarks.report.publish import pictures_of
    from edgecifar.benchmarks.report.study_page import build_study_report

    return build_study_report(collection.path, out / "report.html", **pictures_of(dataset))


def _chosen(study: Study, todo: dict[str, tuple[Task, ...]], only: Sequence[str]) -> list[str]:
    """Return the recipes that `--only` names, all without it."""
    known = {Path(name).stem: [name] for name in todo}
    known |= {ABLATION: [step.recipe for step in study.ablation], NONE: []}
    for name in only:
        if Path(name).stem not in known:
            raise EdgecifarError(f"--only {name!r} is not in this study{did_you_mean(name, known)}")
    picked = [name for one in only for name in known[Path(one).stem]]
    return list(dict.fromkeys(picked if only else todo))
