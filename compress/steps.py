"""The steps that make a run smaller, sparser or ready for int8, under one face."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgecifar.train.progress import Report, ignore
from edgecifar.train.run import Run, RunFinishedError
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.compress.verdict import Verdict
    from edgecifar.train.data import Dataset


class Step(Protocol):
    """What `Pruning`, `Sparsification` and `Quantization` have in common."""

    @property
    def description(self) -> str:
        """What it does, in words."""

    def run_name(self, parent: str) -> str:
        """Return what a run made of `parent` is called."""

    def require_possible(self, model: "keras.Model", dataset: "Dataset") -> None:
        """Raise EdgecifarError if it can't be taken on `model`, whatever its weights are."""

    def take(self, parent: Run, dataset: "Dataset", out: Path, **how) -> Run:
        """Carry it out on the model of `parent` in the run folder `out`."""


def take(
    step: Step,
    parent: Run,
    dataset: "Dataset",
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    teacher: "Teacher | None" = None,
    report: Report = ignore,
) -> Run:
    """Carry out `step` on the model of `parent` in the run folder `out`; resume it if it was begun.

    `report` gets a line now and then.
    """
    require_judgeable(dataset)
    how = {"seed": seed, "force": force, "teacher": teacher, "report": report}
    return step.take(parent, dataset, out, **how)


def take_and_judge(
    step: Step,
    parent: Run,
    dataset: "Dataset",
    out: Path | None = None,
    *,
    report: Report = ignore,
    **how,
) -> "Verdict":
    """Carry out `step` as `take` does, by default beside `parent`, and measure what changed.

    A finished run that was never judged is judged now.
    """
    from edgecifar.compress.judge import judge

    out = out or parent.beside(step.run_name(parent.name))
    run = _unjudged(lambda: take(step, parent, dataset, out, report=report, **how))
    report("comparing with the original")
    return judge((parent,), run, dataset)


def distil_and_judge(
    teacher: "Teacher",
    student: str,
    dataset: "Dataset",
    settings: Training,
    out: Path,
    *,
    report: Report = ignore,
    **how,
) -> tuple[Run, "Verdict"]:
    """Train a student as `distil` does, and measure it against its teacher.

    A finished run that was never judged is judged now.
    """
    from edgecifar.compress.distil import distil
    from edgecifar.compress.judge import judge

    require_judgeable(dataset)
    run = _unjudged(lambda: distil(teacher, student, dataset, settings, out, **how))
    report("comparing with the teacher")
    return run, judge(teacher.runs, run, dataset)


def require_judgeable(dataset: "Dataset") -> None:
    """Raise EdgecifarError if there are too few images for the int8 files that judge a step."""
    from edgecifar.compress.calibration import calibration_images

    calibration_images(dataset)


def _unjudged(work: Callable[[], Run]) -> Run:
    """Return the run that `work` makes, or that it finds finished and without a verdict."""
    from edgecifar.compress.judge import verdict_of

    try:
        return work()
    except RunFinishedError as there:
        if verdict_of(there.run):
            raise
        return there.run
