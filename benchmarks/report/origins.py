"""Where figures come from: short facts, and lists that the page folds away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report.load import Bench, Run
from edgecifar.benchmarks.report.verdict import measured_rows

_TOLD_ELSEWHERE = frozenset(("schema", "name", "classes", "dataset"))
_IN_THE_TABLE = frozenset(
    ("parameters", "macs", "best_epoch", "epochs", "train_seconds", "images_per_second")
)


@dataclass(frozen=True)
class Facts:
    """Where something comes from: short facts, and long lists that the page folds away."""

    heading: str
    facts: dict[str, str]
    folded: dict[str, dict[str, str]]


def device_name(bench: Bench) -> str:
    """Name what a bench ran on: the board, else the processor, and what was withheld of it.

    See `told_apart`.
    """
    known = (bench.environment.get(key) for key in ("board", "cpu", "machine"))
    name = next((str(name) for name in known if name), "an unnamed device")
    if withheld := bench.environment.get("withheld"):
        name = f"{name} without {', '.join(withheld)}"
    return f"{name} ({bench.alias})" if bench.alias else name


def told_apart(benches: Sequence[Bench]) -> list[Bench]:
    """Return benches whose devices are called differently, even if they are of one model."""
    found = list(benches)
    for alias in (lambda bench: bench.raw.get("device") or bench.source.stem, lambda b: b.source):
        names = [device_name(bench) for bench in found]
        found = [
            replace(bench, alias=str(alias(bench))) if names.count(name) > 1 else bench
            for bench, name in zip(found, names, strict=True)
        ]
    return found


def bench_origin(bench: Bench, device: str) -> Facts:
    """Say how and where a bench was measured."""
    environment = dict(bench.environment)
    rows = (row for row in measured_rows(bench) if not row.error)
    named = [(row.name, bench.models[row.index]) for row in rows]
    told = {key: bench.raw.get(key) for key in ("device", "sessions") if bench.raw.get(key) != 1}
    folded = {
        "Settings": words.flatten(bench.settings),
        "Versions": words.versions(environment.pop("versions", None) or {}),
        "Interpreters": {name: model.raw.get("backend", "") for name, model in named},
        "SHA-256": {name: model.raw.get("sha256", "") for name, model in named},
    }
    measured = {"measured": words.moment(bench.raw.get("created"))}
    facts = words.flatten(measured | told | environment) | _data_facts(bench.data)
    return Facts(f"Bench on {device}", facts, _filled(folded))


def run_origin(run: Run) -> Facts:
    """Say how a run was trained and on what."""
    info = dict(run.info)
    folded = {
        "Recipe": words.flatten(info.pop("recipe", None) or {}),
        "Versions": words.versions(info.pop("versions", None) or {}),
    }
    folded["Classes"] = {str(index): name for index, name in enumerate(run.classes)}
    begun = {"begun": words.moment(info.pop("created", None))}
    facts = words.flatten(
        begun | {k: v for k, v in info.items() if k not in _TOLD_ELSEWHERE | _IN_THE_TABLE}
    )
    facts |= _data_facts({**run.dataset, "classes": len(run.classes)})
    return Facts(f"Run {run.name}", facts, _filled(folded))


def _data_facts(data: Mapping[str, Any]) -> dict[str, str]:
    names = {"name": "data set", "n": "images measured", "fingerprint": "fingerprint"}
    shown = {key: value for key, value in data.items() if key != "labels"}
    shown |= {"classes": len(data["classes"])} if isinstance(data.get("classes"), list) else {}
    facts = words.flatten({names.get(key, key): value for key, value in shown.items()})
    if len(facts.get("Fingerprint", "")) > 16:
        facts["Fingerprint"] = f"{facts['Fingerprint'][:16]}…"
    return facts


def _filled(folded: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    kept = {name: {k: v for k, v in values.items() if v} for name, values in folded.items()}
    return {name: values for name, values in kept.items() if values}
