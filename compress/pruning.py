"""What `edgecifar prune` does: choose the kind of pruning, carry it out, judge it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecifar.compress.prune import Pruning, prune
from edgecifar.compress.sparsify import Sparsification, sparsify
from edgecifar.compress.verdict import Verdict, judge
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.run import Run

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

_TARGETS = ("macs", "params", "latency")
_ONLY_FILTERS = ("importance", "multiple", "rounds")


def recipe_for(
    *, sparsity: float | None = None, two_four: bool = False, **options: Any
) -> Pruning | Sparsification:
    """Return the recipe that the options of `edgecifar prune` ask for; None counts as not given.

    Raises EdgecifarError unless exactly one of macs, params, latency, sparsity and two_four is
    given, for options that don't belong to it and for shares that aren't between 0 and 1.
    """
    given = {key: value for key, value in options.items() if value is not None}
    targets = [name for name in _TARGETS if name in given]
    kinds = [*targets, *(["sparsity"] if sparsity is not None else []), *["2:4"] * two_four]
    if len(kinds) != 1:
        raise EdgecifarError(
            "choose one of --macs, --params, --latency, --sparsity and --two-four: "
            + ("none is given" if not kinds else f"{' and '.join(kinds)} are given")
        )
    if targets:
        return Pruning(target=targets[0], share=given.pop(targets[0]), **given)
    alien = [name for name in _ONLY_FILTERS if name in given]
    if alien:
        raise EdgecifarError(f"--{alien[0]} is for --macs, --params and --latency: leave it out")
    if two_four:
        return Sparsification(sparsity=0.5, pattern="2:4", **given)
    return Sparsification(sparsity=sparsity, **given)


def run_name(parent: str, recipe: Pruning | Sparsification) -> str:
    """Return such as `resnet8-p50` (half is gone), `resnet8-s80` or `resnet8-2of4`."""
    if isinstance(recipe, Pruning):
        return f"{parent}-p{100 * (1 - recipe.share):.0f}"
    return f"{parent}-2of4" if recipe.pattern == "2:4" else f"{parent}-s{100 * recipe.sparsity:.0f}"


def prune_run(
    parent: Run,
    dataset: "Dataset",
    recipe: Pruning | Sparsification,
    out: Path | None = None,
    *,
    seed: int = 0,
    force: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> Verdict:
    """Prune `parent` into the run folder `out`, by default beside it, and measure what changed."""
    out = out or parent.path.with_name(run_name(parent.name, recipe))
    carry_out = prune if isinstance(recipe, Pruning) else sparsify
    run = carry_out(parent, dataset, recipe, out, seed=seed, force=force, report=report)
    report("comparing with the original")
    return judge(parent, run, dataset)
