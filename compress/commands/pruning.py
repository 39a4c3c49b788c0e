"""Which kind of pruning the options of `edgecifar prune` ask for."""

from typing import Any

from edgecifar.compress.prune import Pruning
from edgecifar.compress.sparsify import Sparsification
from edgecifar.runtime.errors import EdgecifarError

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
