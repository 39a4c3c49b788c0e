"""How small a pruned model shall become, and the first of ever smaller ones that is."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.costs import CostModel
from edgecifar.compress.filters.selection import Choice, smallest
from edgecifar.compress.filters.shrink import shrink
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras

TargetKind = Literal["macs", "params", "latency"]


class Target:
    """A share of the original's MACs, parameters or int8 latency that may remain.

    `ratio` measures the latency of a model against the original's; only `latency` needs it.
    """

    def __init__(
        self,
        kind: TargetKind,
        share: float,
        original: "keras.Model",
        ratio: Callable[["keras.Model"], float] | None,
    ):
        self.kind, self.share = kind, share
        self.by: Literal["macs", "params"] = "params" if kind == "params" else "macs"
        graph = trace(original)
        self._ratio = ratio
        self._original = getattr(CostModel(original, graph)(graph.all_kept()), self.by)

    def require_reachable(
        self, model: "keras.Model", *, keep: tuple[str, ...], multiple: int
    ) -> None:
        """Raise EdgecifarError, with the nearest that can be met, if even the least is too much."""
        graph = trace(model, keep=keep)
        cost = CostModel(model, graph)
        least, whole = smallest(graph, cost, multiple=multiple), cost(graph.all_kept())
        if self.kind == "latency":
            share = self._ratio(shrink(model, graph, least.kept))
        else:
            share = getattr(least.cost, self.by) / self._original
        if share > self.share:
            nearest = math.ceil(100 * share) / 100
            others = f" or --multiple below {multiple}" if multiple > 1 else ""
            if not keep and least.cost == smallest(graph, cost, multiple=1).cost == whole:
                why = "no filter can be removed, of layers before a sigmoid, say, or grouped ones"
                mend = "use --sparsity"
            elif least.cost == whole:
                why, mend = "no filter can be removed", f"keep fewer layers{others}"
            elif nearest < 1:
                why, mend = f"the least is {nearest:g}", f"use --{self.kind} {nearest:g}{others}"
            elif self.kind == "latency":
                why, mend = "even the smallest network is no faster on this machine", "use --macs"
            else:
                why, mend = f"the least is {share:.3f}", f"keep fewer layers{others}"
            raise EdgecifarError(f"--{self.kind} {self.share:g} can't be met, {why}: {mend}")

    def choose(
        self, choices: Sequence[Choice], build: Callable[[Choice], "keras.Model"], *, part: float
    ) -> Choice:
        """Return the largest of `choices`, which get ever smaller, that is small enough.

        `part`, 0 to 1, is how far towards the target this round goes: the share that may remain is
        `share ** part`. Rounds before the last take MACs for latency.
        """
        most = self.most(part)
        if most is None:
            index = self._bisect(choices, build)
            # Measured anew, since one lucky measurement would decide; smaller if it was.
            while index < len(choices) - 1 and self._ratio(build(choices[index])) > self.share:
                index += 1
            return choices[index]
        return next((c for c in choices if getattr(c.cost, self.by) <= most), choices[-1])

    def left(self, model: "keras.Model") -> str:
        """Say what share of the original is left in `model`, and what was asked for.

        Widths go in steps that several layers may share, so that less can be left than asked for.
        """
        if self.kind == "latency":
            share = self._ratio(model)
        else:
            graph = trace(model)
            share = getattr(CostModel(model, graph)(graph.all_kept()), self.by) / self._original
        unit = {"macs": "MACs", "params": "parameters", "latency": "latency"}[self.kind]
        return f"; {share:.2f} of the {unit} left, {self.share:g} asked for in the end"

    def most(self, part: float) -> float | None:
        """Return the MACs or parameters that may remain in a round; None where latency decides."""
        if self.kind == "latency" and part == 1:
            return None
        return self.share**part * self._original

    def _bisect(self, choices: Sequence[Choice], build: Callable[[Choice], "keras.Model"]) -> int:
        """Find the first choice that measures fast enough, as if latency only ever fell."""
        low, high = 0, len(choices) - 1
        while low < high:
            middle = (low + high) // 2
            if self._ratio(build(choices[middle])) <= self.share:
                high = middle
            else:
                low = middle + 1
        return low
