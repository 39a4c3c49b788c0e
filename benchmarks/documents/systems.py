"""The systems that the README's picture shows, and what is known of each."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecifar.benchmarks.against import PEERS, file_stem, peer_rows, row_of
from edgecifar.benchmarks.study.plan import Member, Study
from edgecifar.benchmarks.study.result import on_validation
from edgecifar.train.zoo import Shipped

Kind = Literal["ours", "peer", "measured", "stand-in", "reported"]


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
    """Yield a mark a system: our float model of it, else what is reported.

    Of several recipes of ours that answer to one system it is the best on validation images.
    """
    results = (outcome or {"members": ()})["members"]
    done = {member["recipe"]: member for member in results if member["mean"].get("float")}
    systems: dict[str, list[Member]] = {}
    for member in (member for member in study.members if member.reported is not None):
        systems.setdefault(member.system or _short(member.label), []).append(member)
    for system, members in systems.items():
        known = [done[name] for name in (Path(m.recipe).stem for m in members) if name in done]
        if known:
            yield _ours(result, system, max(known, key=on_validation))
        else:
            yield Mark("reported", _short(members[0].label), members[0].reported)


def _ours(result: Mapping[str, Any], system: str, member: Mapping[str, Any]) -> Mark:
    files = (file for file in member["runs"][0]["files"] if file["role"] == "float")
    row = next(filter(None, (row_of(result, file["sha256"]) for file in files)), None)
    label = _short(member["label"])
    kind: Kind = "measured" if label == system else "stand-in"
    if row:
        return _measured(kind, label, row)
    return Mark(kind, label, member["mean"]["float"]["top1"])


def _short(label: str) -> str:
    return label.partition(",")[0]


def _measured(kind: Kind, label: str, row: Mapping[str, Any]) -> Mark:
    accuracy = row["accuracy"]
    span = (accuracy["low"], accuracy["high"])
    return Mark(kind, label, accuracy["top1"], span, row["latency_us"]["median"])
