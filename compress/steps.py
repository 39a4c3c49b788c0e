"""The steps that make a run smaller, sparser or ready for int8, under one face."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.compress.prune import Pruning, find_target, prune
from edgecifar.compress.quantizable import require_quantizable
from edgecifar.compress.quantize import Quantization, quantize
from edgecifar.compress.selective import file_part, require_layers
from edgecifar.compress.sparsify import Sparsification, layer_sparsity, sparsify
from edgecifar.train.recipe import Training
from edgecifar.train.run import Run, RunFinishedError

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.compress.verdict import Verdict
    from edgecifar.train.data import Dataset

Step = Pruning | Sparsification | Quantization


def run_name(parent: str, step: Step) -> str:
    """Return such as `resnet8-p50` (half is gone), `resnet8-s80`, `resnet8-2of4`, `resnet8-qat`."""
    if isinstance(step, Quantization):
        return f"{parent}-qat{file_part(step.keep_float)}"
    if isinstance(step, Pruning):
        return f"{parent}-p{100 * (1 - step.share):.0f}"
    return f"{parent}-2of4" if step.pattern == "2:4" else f"{parent}-s{100 * step.sparsity:.0f}"


def require_possible(step: Step, model: "keras.Model", dataset: "Dataset") -> None:
    """Raise EdgecifarError if `step` can't be taken on `model`, whatever its weights are."""
    if isinstance(step, Quantization):
        require_quantizable(model)
        require_layers(model, step.keep_float)
    elif isinstance(step, Pruning):
        find_target(model, dataset, step)
    else:
        layer_sparsity(model, step)


def take(
    step: Step,
    parent: Run,
    dataset: "Dataset",
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    teacher: "Teacher | None" = None,
    report: Callable[[str], object] = lambda text: None,
) -> Run:
    """Carry out `step` on the model of `parent` in the run folder `out`; resume it if it was begun.

    `report` gets a line now and then.
    """
    require_judgeable(dataset)
    how = {"seed": seed, "force": force, "teacher": teacher}
    if isinstance(step, Quantization):
        return quantize(parent, dataset, step, out, **how)
    work = prune if isinstance(step, Pruning) else sparsify
    return work(parent, dataset, step, out, report=report, **how)


def take_and_judge(
    step: Step,
    parent: Run,
    dataset: "Dataset",
    out: Path | None = None,
    *,
    report: Callable[[str], object] = lambda text: None,
    **how,
) -> "Verdict":
    """Carry out `step` as `take` does, by default beside `parent`, and measure what changed.

    A finished run that was never judged is judged now.
    """
    from edgecifar.compress.judge import judge

    out = out or parent.beside(run_name(parent.name, step))
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
    report: Callable[[str], object] = lambda text: None,
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
    """Raise EdgecifarError if the int8 files that a step is judged by couldn't be made."""
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
