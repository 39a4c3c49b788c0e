"""The systems that the README's picture shows, and what is known of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.against import PEERS, Row, file_stem, peer_rows, row_of
from edgecifar.benchmarks.compare import relative
from edgecifar.benchmarks.study.plan import Member, Study
from edgecifar.benchmarks.study.result import mean_over_seeds, on_validation
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.zoo import Shipped

Kind = Literal["ours", "peer", "measured", "reported"]
_USUAL_SIZE = 32  # pixels: of CIFAR-10's images


@dataclass(frozen=True)
class Mark:
    """A system: top-1 in percent, with its interval if it was measured, and latency in us."""

    kind: Kind
    label: str
    top1: float
    latency: float
    interval: tuple[float, float] | None = None


def marks(
    result: Mapping[str, Any],
    shipped: Iterable[Shipped],
    study: Study,
    outcome: Mapping[str, Any],
    untrained: Mapping[str, Any],
) -> list[Mark]:
    """Return what the picture shows: our shipped files, the peer's and the systems of `study`.

    `outcome` is the study's result. Latencies are of the bench `result`; those of the systems are
    of `untrained`, a bench of their architectures with random weights, by their ratio to the first
    file that both have. Raises EdgecifarError if a system is missing there.
    """
    found = []
    for model in shipped:
        row = row_of(result, model.info["int8"]["sha256"])
        found += [_measured("ours", model.name, row)] if row else []
    found += [_measured("peer", PEERS[file_stem(row)], row) for row in peer_rows(result)]
    return [*found, *_systems(study, outcome, _Latencies(result, untrained))]


class _Latencies:
    """Microseconds of architectures, on the scale of a bench that hasn't got them."""

    def __init__(self, result: Mapping[str, Any], untrained: Mapping[str, Any]):
        medians = {r["sha256"]: r["latency_us"]["median"] for r in result["models"]}
        self._rows: Sequence[Row] = untrained["models"]
        shared = next((row for row in self._rows if row["sha256"] in medians), None)
        if shared is None:
            raise EdgecifarError("no file of the systems' bench is in that of the shipped models")
        self._shared, self._median = shared, medians[shared["sha256"]]

    def of(self, member: Member) -> float:
        """Return the latency of a recipe's architecture, at the size that the recipe takes."""
        recipe = recipes.read(member.recipe)
        size = recipe.transfer.backbone_size if recipe.transfer else _USUAL_SIZE
        name = f"{recipe.architecture}-{size}-float32"
        for row in self._rows:
            if file_stem(row) == name:
                return self._median * relative(row, self._shared).value
        raise EdgecifarError(
            f"{name}.tflite was not measured beside the other systems: write it with "
            "edgecifar.benchmarks.checks.untrained, and measure all of them again"
        )


def _systems(study: Study, outcome: Mapping[str, Any], latencies: _Latencies) -> Iterator[Mark]:
    """Yield our float model of each architecture, and what is reported of those not trained here.

    Of several recipes for an architecture it is the best on validation images.
    """
    done = {
        member["recipe"]: member for member in outcome["members"] if member["mean"].get("float")
    }
    groups: dict[str, list[Member]] = {}
    for member in (member for member in study.members if member.reported is not None):
        groups.setdefault(recipes.read(member.recipe).architecture, []).append(member)
    for members in groups.values():
        known = {name: m for m in members if (name := Path(m.recipe).stem) in done}
        if known:
            best = max(known, key=lambda name: on_validation(done[name]))
            yield _ours(known[best], done[best], latencies)
        elif not members[0].stands_in:
            first = members[0]
            yield Mark("reported", _short(first.label), first.reported, latencies.of(first))


def _ours(member: Member, done: Mapping[str, Any], latencies: _Latencies) -> Mark:
    mean = mean_over_seeds(done, "float")
    span = (mean["low"], mean["high"])
    return Mark("measured", _short(member.label), mean["top1"], latencies.of(member), span)


def _short(label: str) -> str:
    return label.partition(",")[0]


def _measured(kind: Kind, label: str, row: Row) -> Mark:
    accuracy = row["accuracy"]
    span = (accuracy["low"], accuracy["high"])
    return Mark(kind, label, accuracy["top1"], row["latency_us"]["median"], span)
