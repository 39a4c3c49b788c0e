"""In which order filters go: always those that matter least for what they cost."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgecifar.compress.filters.channels import ChannelGraph
from edgecifar.compress.filters.costs import Cost, CostModel
from edgecifar.compress.filters.importance import Scores


@dataclass(frozen=True, eq=False)
class Choice:
    """Units to keep, bool [units], and what the model then costs."""

    kept: np.ndarray
    cost: Cost


def removals(
    graph: ChannelGraph, scores: Scores, costs: CostModel, *, by: str, multiple: int
) -> Iterator[Choice]:
    """Yield ever smaller models, from the whole one to the smallest.

    Each step takes the lowest-scored units of one group, as many as bring its size down to the
    next lower multiple of `multiple`; a group never falls below one multiple. The group is the one
    that loses the least for what it saves of `by`, `macs` or `params`; where scores are relative,
    the one that has then lost the smallest share of its whole score.
    """
    orders = _orders(graph, scores)
    kept = graph.all_kept()
    current = Choice(kept.copy(), costs(kept))
    yield current
    while True:
        steps = [
            (score, choice)
            for units in orders
            for score, choice in _step(units, current, scores, costs, by=by, multiple=multiple)
        ]
        if not steps:
            return
        current = min(steps, key=lambda step: step[0])[1]
        yield current


def refilled(
    choice: Choice,
    graph: ChannelGraph,
    scores: Scores,
    costs: CostModel,
    *,
    most: float,
    by: str,
    multiple: int,
) -> Choice:
    """Return `choice` with the best filters back for which there is room below `most`.

    A step that many layers share may have taken far more than was needed. Each step back is one
    of the group that has lost the largest share of its score.
    """
    orders = _orders(graph, scores)
    while True:
        fitting = []
        for order in orders:
            values, size = scores.values[order], int(np.count_nonzero(choice.kept[order]))
            if size == len(order):
                continue
            kept = choice.kept.copy()
            kept[order[: (size // multiple + 1) * multiple]] = True
            fuller = Choice(kept, costs(kept))
            if getattr(fuller.cost, by) <= most:
                fitting.append((values[size:].sum() / max(values.sum(), 1e-12), fuller))
        if not fitting:
            return choice
        choice = max(fitting, key=lambda each: each[0])[1]


def _orders(graph: ChannelGraph, scores: Scores) -> list[np.ndarray]:
    """Return the units of each group, best first."""
    return [
        group.units[np.argsort(-scores.values[group.units], kind="stable")]
        for group in graph.groups
    ]


def smallest(graph: ChannelGraph, costs: CostModel, *, multiple: int) -> Choice:
    """Return the smallest model that removal can reach."""
    kept = graph.all_kept()
    for group in graph.groups:
        kept[group.units[multiple:]] = False
    return Choice(kept, costs(kept))


def _step(
    order: np.ndarray,
    current: Choice,
    scores: Scores,
    costs: CostModel,
    *,
    by: str,
    multiple: int,
) -> Iterator[tuple[float, Choice]]:
    """Yield (price, choice) of the group's next step, if it has one; `order` is best first."""
    size = int(np.count_nonzero(current.kept[order]))
    if size <= multiple:
        return
    gone = order[(size - 1) // multiple * multiple : size]
    kept = current.kept.copy()
    kept[gone] = False
    cost = costs(kept)
    if scores.absolute:
        lost, worth = scores.values[gone], getattr(current.cost, by) - getattr(cost, by)
    else:
        # Weighed against what is saved, the widest layers at the largest image would be emptied;
        # against what is left, the layers with the most filters.
        lost, worth = scores.values[order[~kept[order]]], scores.values[order].sum()
    yield float(lost.sum()) / max(float(worth), 1e-12), Choice(kept, cost)
