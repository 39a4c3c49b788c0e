"""A study's result as the report reads it: the same runs and benches as of other reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.benchmarks.report.load import Bench, Run, load_run, parse_bench
from edgecifar.benchmarks.statistics import Calibration
from edgecifar.benchmarks.study import result as study_result
from edgecifar.benchmarks.study import wording
from edgecifar.runtime import results


@dataclass(frozen=True)
class File:
    """One exported file of one seed; `bench` counts the benches, if one of them timed it."""

    raw: Mapping[str, Any]
    bench: int | None
    measured: Mapping[str, Any]

    @property
    def accuracy(self) -> Mapping[str, Any]:
        """Top-1 in percent, low, high, n."""
        return self.raw["accuracy"]

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of top-1, in percent."""
        return self.accuracy["low"], self.accuracy["high"]

    @property
    def correct(self) -> np.ndarray:
        """Right or wrong, bool [n], image by image."""
        return results.unpack_bits(self.accuracy["correct"], self.accuracy["n"])

    @property
    def median(self) -> float | None:
        """Latency of one image in microseconds."""
        return (self.measured.get("latency_us") or {}).get("median")


@dataclass(frozen=True)
class Repetition:
    """A recipe carried out with one seed; `files` by their roles."""

    raw: Mapping[str, Any]
    run: Run
    files: Mapping[str, File]


@dataclass(frozen=True)
class System:
    """A member of a study or a step of its ablation; without repetitions it was not run."""

    raw: Mapping[str, Any]
    repetitions: tuple[Repetition, ...]

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.raw.get("label") or self.raw["change"]

    @property
    def asked(self) -> float | None:
        """Top-1 in percent that its float model was to reach."""
        return self.raw.get("asked")

    @property
    def tried(self) -> str:
        """What was done for that so far."""
        return self.raw.get("tried") or ""

    @property
    def outcome(self) -> str:
        """Say `met`, or by how many points it was missed; nothing while it isn't known."""
        return wording.outcome(self.raw)

    def seeds(self, role: str) -> str:
        """Say of how many seeds the mean of a role's files is, of how many that are planned."""
        return wording.seeds(self.raw, role)

    @property
    def first(self) -> Repetition | None:
        """The repetition whose details are shown."""
        return self.repetitions[0] if self.repetitions else None

    @property
    def int8(self) -> str:
        """The role of the int8 file that is shown: the better one on validation images."""
        return study_result.int8_role([one.raw for one in self.repetitions])

    def small(self, one: Repetition | None = None) -> File | None:
        """Return that int8 file of a repetition, by default the first."""
        one = one or self.first
        return one.files.get(self.int8) if one else None

    def mean(self, role: str) -> Mapping[str, Any] | None:
        """Return top-1 of a role's files over the seeds, or None."""
        return self.raw["mean"].get(role)

    def interval(self, role: str) -> tuple[float, float]:
        """Return the interval of that mean: over the seeds, or of the images if there is one."""
        mean = self.raw["mean"][role]
        if mean["seeds"] == 1:
            return next(one.files[role].interval for one in self.repetitions if role in one.files)
        return mean["low"], mean["high"]


@dataclass(frozen=True)
class StudyData:
    """All of a study's result."""

    raw: Mapping[str, Any]
    members: tuple[System, ...]
    steps: tuple[System, ...]
    benches: tuple[Bench, ...]


def load_study(path: Path, folders: Sequence[Path] = ()) -> StudyData:
    """Read a sealed result; run folders add what older ones don't hold."""
    raw = study_result.read(path)
    kept = {_identity(run.info): run for run in map(load_run, folders)}
    return StudyData(
        raw,
        tuple(_system(raw, part, kept) for part in raw["members"]),
        tuple(_system(raw, part, kept) for part in raw["ablation"]),
        tuple(parse_bench(path, bench) for bench in raw["benches"]),
    )


def _system(raw: Mapping[str, Any], part: Mapping[str, Any], kept: Mapping[Any, Run]) -> System:
    label = part.get("label") or part["change"]
    return System(part, tuple(_repetition(raw, entry, label, kept) for entry in part["runs"]))


def _repetition(
    raw: Mapping[str, Any], entry: Mapping[str, Any], label: str, kept: Mapping[Any, Run]
) -> Repetition:
    files = {}
    for file in entry["files"]:
        index, measured = study_result.latency_of(raw, file["sha256"]) or (None, {})
        if file["role"]:
            files[file["role"]] = File(file, index, measured)
    stage = entry["stages"][0]
    info = {key: value for key, value in stage.items() if key != "top1"} | {
        "name": label,
        "seed": entry["seed"],
        "classes": raw["data"]["classes"],
        "dataset": raw["data"],
    }
    run = Run(
        path=Path(stage["name"]),
        info=info,
        history={key: _array(values) for key, values in entry["history"].items()},
        metrics=entry["metrics"],
        labels=None,
        exports=(),
        calibration=_calibration(entry["reliability"]),
        correct=files["float"].correct if "float" in files else None,
        mistakes={(t, p): tuple(places) for t, p, places in entry.get("mistakes", ())},
    )
    if found := kept.get(_identity(info)):
        run = replace(run, labels=found.labels, mistakes=found.mistakes)
    return Repetition(entry, run, files)


def _identity(info: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells one training from another."""
    return info.get("created"), info.get("architecture"), info.get("seed")


def _calibration(stored: Mapping[str, Any] | None) -> Calibration | None:
    if stored is None:
        return None
    arrays = {key: _array(stored[key]) for key in ("edges", "confidence", "accuracy")}
    return Calibration(**arrays, count=np.array(stored["count"]), ece=stored["ece"])


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
