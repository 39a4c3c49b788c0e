"""Structured pruning: whole filters go, in rounds with fine-tuning between."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.compress.filters.importance import Importance
from edgecifar.compress.filters.target import Target, TargetKind
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_whole
from edgecifar.train.keras_files import load_model, save_model
from edgecifar.train.parsing import require
from edgecifar.train.progress import Report, ignore
from edgecifar.train.run import Run, start_run
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.data import Dataset
    from edgecifar.train.pipeline import Feed


@dataclasses.dataclass(frozen=True)
class Pruning:
    """What to remove, and how to fine-tune; all else of the training stays as the parent had it."""

    target: TargetKind = "macs"
    share: float = 0.5  # of the parent's MACs, parameters or int8 latency that may remain
    importance: Importance = "taylor"
    multiple: int = 8  # layers keep a multiple of this many channels, since kernels like it
    keep: tuple[str, ...] = ()  # layers that lose no filter
    rounds: int = 3
    between: int = 3  # epochs of fine-tuning after each round but the last
    epochs: int = 20  # after the last
    learning_rate: float | None = None  # the peak; by default 0.1, see `Training.fine_tuning`
    ema: float = 0.99

    def __post_init__(self) -> None:
        require_share(self.share, f"--{self.target}")
        for name in ("multiple", "rounds", "between"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        self.settings(Training(), epochs=self.epochs)

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"pruning to {100 * self.share:.0f} % of its {self.target}, {self.rounds} rounds"

    def run_name(self, parent: str) -> str:
        """Return such as `resnet8-p40`, of which 40 % are gone."""
        return f"{parent}-p{100 * (1 - self.share):.0f}"

    def require_possible(self, model: "keras.Model", dataset: "Dataset") -> None:
        """Raise EdgecifarError if `model` can't be pruned so, whatever its weights are."""
        find_target(model, dataset, self)

    def take(self, parent: Run, dataset: "Dataset", out: Path, **how) -> Run:
        """Carry it out; see `prune`."""
        return prune(parent, dataset, self, out, **how)

    def settings(self, parent: Training, *, epochs: int) -> Training:
        """Return the settings for fine-tuning a model that was trained with those of `parent`."""
        return parent.fine_tuning(
            epochs=epochs, learning_rate=self.learning_rate, usual=0.1, ema=self.ema
        )


def require_share(share: float, option: str) -> None:
    """Raise EdgecifarError unless `share` lies between 0 and 1, both excluded."""
    if not 0 < share < 1:
        raise EdgecifarError(f"{option} is {share:g}: give a share between 0 and 1, such as 0.5")


def prune(
    parent: Run,
    dataset: "Dataset",
    recipe: Pruning,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    teacher: "Teacher | None" = None,
    report: Report = ignore,
) -> Run:
    """Remove filters from the model of `parent` and fine-tune it into the run folder `out`.

    Resumes if it was begun. The run holds a smaller, dense Keras model. With a `teacher`, such as
    the parent itself, it learns from that as in distillation. `report` gets a line a round.
    Raises EdgecifarError, before any work, for a model that can't be pruned, a layer that isn't
    there and a target that can't be met.
    """
    from edgecifar.compress.distil import fine_tuning_feed, taught_settings
    from edgecifar.train.session import finish, inherited

    settings = taught_settings(teacher, dataset, inherited(parent, dataset))
    last = recipe.settings(settings, epochs=recipe.epochs)
    model = parent.load_model()
    target = find_target(model, dataset, recipe, begun=not force and (out / "run.json").exists())
    run = start_run(
        out,
        dataset,
        last,
        stage="prune",
        seed=seed,
        force=force,
        parent=parent,
        pruning=dataclasses.asdict(recipe) | {"learning_rate": last.learning_rate},
        teacher=teacher.identity() if teacher else None,
    )
    feed = partial(fine_tuning_feed, teacher, dataset, run=run, seed=seed, parent=parent)
    seconds = 0.0
    for number in range(1, recipe.rounds + 1):
        start = run.path / "rounds" / f"{number}.h5"
        if not start.exists():
            smaller = _remove(model, dataset, recipe, target, part=number / recipe.rounds)
            write_whole(start, partial(save_model, smaller))
        model = load_model(start)
        report(f"round {number} of {recipe.rounds}: {describe(model)}{target.left(model)}")
        result = _fine_tune(model, feed, recipe, settings, run, number=number, seed=seed)
        seconds += result.seconds
    finish(run, model, dataset, dataclasses.replace(result, seconds=seconds))
    return run


def describe(model: "keras.Model") -> str:
    """Return the MACs, parameters and widths of a model in a line."""
    from edgecifar.train.macs import calls, count_macs

    widths = [
        str(outputs[0][-1])
        for layer, outputs in calls(model)
        if type(layer).__name__ in ("Conv2D", "SeparableConv2D", "Dense")
    ]
    sizes = f"{count_macs(model):,} MACs, {model.count_params():,} parameters"
    return f"{sizes}, widths {' '.join(widths)}"


def find_target(
    model: "keras.Model", dataset: "Dataset", recipe: Pruning, *, begun: bool = False
) -> Target:
    """Return what `model`, the original, is to be pruned to. Raises EdgecifarError if it can't be.

    What was `begun` could be: on a busier machine its latency may seem out of reach.
    """
    from edgecifar.compress.filters.channels import trace
    from edgecifar.compress.filters.importance import bn_scale

    graph = trace(model, keep=recipe.keep)
    if recipe.importance == "bn":
        bn_scale(model, graph)  # raises if there are no scales
    ratio = None
    if recipe.target == "latency":
        from edgecifar.compress.calibration import calibration_images
        from edgecifar.compress.latency import Int8Race

        ratio = Int8Race(model, calibration_images(dataset, 100)).ratio
    target = Target(recipe.target, recipe.share, model, ratio)
    if not begun:
        target.require_reachable(model, keep=recipe.keep, multiple=recipe.multiple)
    return target


def _remove(
    model: "keras.Model", dataset: "Dataset", recipe: Pruning, target: Target, *, part: float
) -> "keras.Model":
    """Return `model` without the filters that a round takes; see `Target.choose` for `part`."""
    from edgecifar.compress.filters.channels import trace
    from edgecifar.compress.filters.costs import CostModel
    from edgecifar.compress.filters.importance import importance
    from edgecifar.compress.filters.selection import refilled, removals
    from edgecifar.compress.filters.shrink import shrink

    graph = trace(model, keep=recipe.keep)
    scores = importance(recipe.importance, model, graph, dataset.train)
    costs = CostModel(model, graph)
    how = {"by": target.by, "multiple": recipe.multiple}
    choices = list(removals(graph, scores, costs, **how))
    choice = target.choose(choices, lambda c: shrink(model, graph, c.kept), part=part)
    if (most := target.most(part)) is not None:
        choice = refilled(choice, graph, scores, costs, most=most, **how)
    return shrink(model, graph, choice.kept)


def _fine_tune(
    model: "keras.Model",
    feed: "Callable[[Training], Feed]",
    recipe: Pruning,
    parent: Training,
    run: Run,
    *,
    number: int,
    seed: int,
) -> "Fit":
    """Fit a round's model; the last round's history and checkpoints are the run's own."""
    from edgecifar.compress.fine_tune import fine_tune

    last = number == recipe.rounds
    epochs = recipe.epochs if last else recipe.between
    folder = run.path if last else run.path / "rounds" / str(number)
    settings = recipe.settings(parent, epochs=epochs)
    return fine_tune(model, feed(settings), settings, folder, seed=seed)
