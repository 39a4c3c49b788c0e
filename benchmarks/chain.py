"""The runs of a recipe, each made from the one before: trained, pruned, made sparse, quantized."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.recipe import Recipe, Variant
from edgecifar.compress.quantize import Quantization
from edgecifar.compress.steps import Step, require_judgeable, take
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import completed
from edgecifar.train.run import Run, RunDiffersError, RunFinishedError, is_finished, open_run
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    from edgecifar.compress.distil import Teacher
    from edgecifar.train.data import Dataset


@dataclass(frozen=True)
class Made:
    """A run of a recipe, and the formats that it is exported in."""

    run: Run
    formats: tuple[str, ...]


@dataclass(frozen=True)
class Chain:
    """A recipe on its way to the folder `out`.

    What is finished there under the same recipe and from the same parent is taken as it is; what
    was begun goes on. What another recipe made is an error that names the difference, unless with
    `force`: then it is made anew, and with it all that comes from it. `pupils` are the recipes
    that wait for this one as their teacher; `shipped` is its float model if that needn't be made.
    """

    recipe: Recipe
    dataset: "Dataset"
    out: Path
    force: bool = False
    pupils: tuple[str, ...] = ()
    shipped: Run | None = None

    def runs(self) -> Iterator[Made]:
        """Make one run after the other: the float model, its int8 form, then each variant.

        Raises EdgecifarError, before any training, for a step that can't be taken.
        """
        there = None if self.force else self.out
        require_feasible(self.recipe, self.dataset, there, begun=is_finished(self._trained))
        trained = self.trained()
        if self.recipe.teachers and self._teachers_are_there:
            self._compare(self._teachers.runs, trained)
        yield Made(trained, self.recipe.export)
        if self.recipe.fine_tune_int8:
            yield self._int8(trained, self.recipe.quantize, self._itself(trained, None))
        for variant in self.recipe.variants:
            yield from self._variant(trained, variant)

    def trained(self) -> Run:
        """Make the float model alone, which is all that a teacher needs."""
        if self.shipped:
            return self.shipped
        recipe, out = self.recipe, self._trained

        def work(*, teacher: "Teacher | None", **how) -> Run:
            from edgecifar.compress.distil import distil
            from edgecifar.train import session, transfer

            what = (recipe.architecture, self.dataset, recipe.train)
            if teacher:
                run = distil(teacher, *what, out, **how)
                run.update(**{recipes.TAUGHT_BY: recipe.taught_by()})
                return run
            if recipe.transfer:
                return transfer.train(*what, recipe.transfer, out, **how)
            return session.train(*what, out, **how)

        return self._stage(f"training, {recipe.train.epochs} epochs", out, work)

    def _variant(self, trained: Run, variant: Variant) -> Iterator[Made]:
        teacher, run = self._itself(trained, variant.distil), trained
        for step in variant.steps:
            run = self._step(step, run, teacher)
            yield Made(run, variant.export if step is variant.steps[-1] else ())
        if self.recipe.fine_tune_int8:
            yield self._int8(run, variant.quantize or self.recipe.quantize, teacher)

    def _int8(self, run: Run, step: Quantization, teacher: "Teacher | None") -> Made:
        """Make the int8 form of a float run; it comes in the int8 formats that the recipe names."""
        formats = ("int8", *(name for name in self.recipe.export if name == "onnx-int8"))
        return Made(self._step(step, run, teacher), formats)

    def _step(self, step: Step, parent: Run, teacher: "Teacher | None") -> Run:
        """Make a run of `parent` and measure what that changed."""
        out = self.out / step.run_name(parent.name)
        work = partial(take, step, parent, self.dataset, out, report=announce)
        run = self._stage(step.description, out, work, teacher)
        self._compare((parent,), run)
        return run

    def _compare(self, origins: Sequence[Run], run: Run) -> None:
        """Measure a run against what it was made of or taught by, unless that was done."""
        from edgecifar.compress.judge import judge, verdict_of

        if not verdict_of(run):
            announce(f"comparing {run.name} with {'+'.join(origin.name for origin in origins)}")
            judge(origins, run, self.dataset)

    def _stage(
        self,
        what: str,
        out: Path,
        work: Callable[..., Run],
        teacher: "Teacher | None" = None,
    ) -> Run:
        """Return the run at `out` if it is the one that `work` would make, else let it work.

        The recipe's teachers teach it if it has no `teacher` of its own.
        """
        done, seed = is_finished(out), self.recipe.seed
        absent = done and not teacher and not self._teachers_are_there
        known = self._absent(out) if absent else teacher or self._teachers
        if not done:
            announce(f"{out.name}: {what}" + (", going on" if out.exists() else ""))
        try:
            if absent:
                self._require_taught_by_such(out)
            return work(force=False, teacher=known, seed=seed)
        except RunFinishedError as there:
            return there.run
        except RunDiffersError:
            if not self.force:
                raise
        announce(f"{out.name}: {what}, anew since it was made otherwise")
        return work(force=True, teacher=teacher or self._teachers, seed=seed)

    @property
    def _trained(self) -> Path:
        return self.shipped.path if self.shipped else self.out / self.recipe.architecture

    def _itself(self, trained: Run, wanted: bool | None) -> "Teacher | None":
        """Return the float model as the teacher of what is made of it, if that is wanted."""
        from edgecifar.compress.distil import Teacher

        if not (self.recipe.self_distil if wanted is None else wanted):
            return None
        return Teacher((trained,), self.recipe.distil, answers=self.out / "answers")

    @cached_property
    def _schools(self) -> tuple["Chain", ...]:
        """The recipe's teachers, each with a folder of its own beside this one.

        One whose folder isn't there is not trained if what its recipe makes of the data ships.
        """
        chains = []
        for name in self.recipe.teachers:
            if name in self.pupils:
                raise EdgecifarError(f"the recipe {name} is among its own teachers: take it out")
            chosen, quick = recipes.read(name), self.recipe.quick
            place = self.out.parent / recipes.folder_name(name, quick=quick, seed=chosen.seed)
            chosen = chosen.shortened() if quick else chosen
            shipped = None if place.exists() else _shipped(name, chosen, self.dataset)
            pupils = (*self.pupils, name)
            chains.append(replace(self, recipe=chosen, out=place, pupils=pupils, shipped=shipped))
        return tuple(chains)

    @property
    def _teachers_are_there(self) -> bool:
        return all(is_finished(school._trained) for school in self._schools)

    def _require_taught_by_such(self, out: Path) -> None:
        """Raise RunDiffersError if the teachers of a finished run had other recipes."""
        known = open_run(out).info.get(recipes.TAUGHT_BY) or ()
        # Another number of teachers is told with all else that differs.
        if len(known) == len(self.recipe.teachers) and not self.recipe.is_taught_by(known):
            raise RunDiffersError(
                f"{out} was taught by networks that its teachers' recipes no longer make: give "
                "--force to make it anew, or another --out"
            )

    def _absent(self, out: Path) -> "Teacher":
        """Return the teachers of the finished run at `out` without their folders.

        To train them again would only tell whether they are the same models: all else is compared.
        """
        from edgecifar.compress.distil import Teacher

        taught, schools = open_run(out).info.get("teacher") or {}, self._schools
        models = taught.get("models", ())[: len(schools)]
        runs = (
            _Gone(school.out / school.recipe.architecture, noted)
            for school, noted in zip_longest(schools, models)
        )
        return Teacher(tuple(runs), self.recipe.distil)

    @cached_property
    def _teachers(self) -> "Teacher | None":
        """The recipe's teachers, after what is still missing of them was trained."""
        from edgecifar.compress.distil import Teacher

        runs = tuple(school.trained() for school in self._schools)
        return Teacher(runs, self.recipe.distil) if runs else None


def require_feasible(
    recipe: Recipe, dataset: "Dataset", out: Path | None = None, *, begun: bool = False
) -> None:
    """Raise EdgecifarError if a step of `recipe` can't be taken with these images.

    That is told by shapes and numbers of images alone; of `recipe`'s teachers nothing is asked,
    nor of the training if that has `begun`, nor of steps whose runs are in the folder `out`.
    """
    from edgecifar.train import models
    from edgecifar.train.loop import require_batches

    known = models.find(recipe.architecture)
    if not begun:
        require_batches(dataset, recipe.train)
    steps = [step for name, step in _steps(recipe) if not (out and (out / name).exists())]
    if not steps:
        return
    require_judgeable(dataset)
    deployed = known.deployed(known.built_for(dataset.image_size, len(dataset.classes)))
    for step in steps:
        step.require_possible(deployed, dataset)


def _steps(recipe: Recipe) -> Iterator[tuple[str, Step]]:
    """Yield each step after training, with the name of the run that it makes."""

    def int8(step: Quantization, parent: str) -> Iterator[tuple[str, Step]]:
        if recipe.fine_tune_int8:
            yield step.run_name(parent), step

    yield from int8(recipe.quantize, recipe.architecture)
    for variant in recipe.variants:
        names = variant.run_names(recipe.architecture)
        yield from zip(names, variant.steps, strict=True)
        yield from int8(variant.quantize or recipe.quantize, names[-1])


@dataclass(frozen=True)
class _Gone(Run):
    """A teacher's run without its folder: `noted` is the SHA-256 that its pupil has of its model.

    It is None if the pupil had no such teacher.
    """

    noted: str | None

    @property
    def digest(self) -> str | None:
        """SHA-256 of the model's file, as the pupil has it."""
        return self.noted

    def require_data(self, dataset: "Dataset") -> None:
        """Nothing: what it was trained on went with its folder."""


def _shipped(name: str, recipe: Recipe, dataset: "Dataset") -> Run | None:
    """Return the float model that ships if the recipe called `name` made it of the same images."""
    from edgecifar.train import zoo

    if recipe.transfer:  # its weights are known once it begins
        return None
    asked = {
        "architecture": recipe.architecture,
        "recipe": asdict(recipe.train),
        "seed": recipe.seed,
    }
    taught = {
        "runs": [recipes.read(teacher).architecture for teacher in recipe.teachers],
        **asdict(recipe.distil),
    }
    for model in zoo.entries():
        made = model.info["float"]["run"]
        made = made | {"recipe": completed(Training, made["recipe"])}
        if made["dataset"]["fingerprint"] != dataset.fingerprint:
            continue
        teacher = made.get("teacher") or {}
        same_school = taught.items() <= teacher.items() if recipe.teachers else not teacher
        if model.info["recipe"] == name and same_school and asked.items() <= made.items():
            return model.open_run()
    return None


def announce(text: str) -> None:
    """Report progress."""
    click.echo(text, err=True)
