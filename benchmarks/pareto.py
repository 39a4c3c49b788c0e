"""The Pareto front of accuracy and cost."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def unbeaten(
    items: Iterable[Item], cost: Callable[[Item], float], top1: Callable[[Item], float]
) -> list[Item]:
    """Return those that no other beats in accuracy and cost both, the cheapest first."""
    front: list[Item] = []
    for item in sorted(items, key=lambda item: (cost(item), -top1(item))):
        if not front or top1(item) > top1(front[-1]):
            front.append(item)
    return front
