"""The systems that the README's picture shows, and what is known of each."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgecifar.benchmarks.against import PEERS, file_stem, peer_rows, row_of
from edgecifar.benchmarks.study import Study
from edgecifar.train.zoo import Shipped

Kind = Literal["ours", "peer", "measured", "reported"]


@dataclass(frozen=True)
class Mark:
    """A system: top-1 in percent with its interval, and median latency in us, where known."""

    kind: Kind
    label: str
    top1: float
    interval: tuple[float, float] | None = None
    latency: float | None = None


def marks(
    result: Mapping[str, Any],
    shipped: Iterable[Shipped],
    study: Study,
    outcome: Mapping[str, Any] | None = None,
) -> list[Mark]:
    """Return what the picture shows: our shipped files, the peer's and the systems of `study`.

    Of these, `outcome` is the study's result if there is one. Latencies are of `result` alone, so
    that all were measured in one run.
    """
    found = []
    for model in shipped:
        row = row_of(result, model.info["int8"]["sha256"])
        found += [_measured("ours", model.name, row)] if row else []
    found += [_measured("peer", PEERS[file_stem(row)], row) for row in peer_rows(result)]
    return [*found, *_systems(result, study, outcome)]


def _systems(
    result: Mapping[str, Any], study: Study, outcome: Mapping[str, Any] | None
) -> Iterator[Mark]:
    """Yield a mark a system: the best float model that was measured of it, else what is reported.

    Several recipes of ours may answer to one system: they have the same number reported.
    """
    results = (outcome or {"members": ()})["members"]
    done = {member["recipe"]: member for member in results if member["mean"].get("float")}
    for top1 in dict.fromkeys(m.reported for m in study.members if m.reported is not None):
        members = [member for member in study.members if member.reported == top1]
        known = [done[member.recipe] for member in members if member.recipe in done]
        if not known:
            yield Mark("reported", _short(members[0].label), top1)
            continue
        best = max(known, key=lambda member: member["mean"]["float"]["top1"])
        files = (file for file in best["runs"][0]["files"] if file["role"] == "float")
        row = next(filter(None, (row_of(result, file["sha256"]) for file in files)), None)
        label = _short(best["label"])
        yield (
            _measured("measured", label, row)
            if row
            else Mark("measured", label, best["mean"]["float"]["top1"])
        )


def _short(label: str) -> str:
    return label.partition(",")[0]


def _measured(kind: Kind, label: str, row: Mapping[str, Any]) -> Mark:
    accuracy = row["accuracy"]
    span = (accuracy["low"], accuracy["high"])
    return Mark(kind, label, accuracy["top1"], span, row["latency_us"]["median"])
