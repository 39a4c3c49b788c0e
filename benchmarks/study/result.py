"""The one file that a study comes to: collected from run folders, sealed, and read back.

What it holds suffices for the whole report but for example images. Per-image answers are kept as
bits, right or wrong, for paired comparisons.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecifar.benchmarks.statistics import mean_of
from edgecifar.benchmarks.study.entry import read_entry
from edgecifar.benchmarks.study.features import features
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file

if TYPE_CHECKING:
    from edgecifar.benchmarks.study.plan import Member, Study, Task
    from edgecifar.train.data import Dataset

KIND = "study"  # of results
ROLES = ("float", "int8", "int8_post")  # fine-tuned for int8, or quantized after training


class Collection:
    """A study's result as it grows, beside the tasks that it comes from."""

    def __init__(
        self,
        study: "Study",
        tasks: Mapping[str, Sequence["Task"]],
        dataset: "Dataset",
        path: Path,
        earlier: Path | None = None,
    ) -> None:
        """Begin with what `path` holds, and with what the result `earlier` has beyond that.

        Raises EdgecifarError if one of them is damaged, or of other images than `dataset`.
        """
        self.study, self.tasks, self.dataset, self.path = study, tasks, dataset, path
        self._known, self._benches, self._told = [], [], set()
        if path.exists():
            self._begin_with(path, "give another --out")
        if earlier:
            self._begin_with(earlier, "leave out --earlier or give the same --data")
        self._features = {name: _features(tasks[name][0], dataset) for name in tasks}

    def _begin_with(self, file: Path, mend: str) -> None:
        known = read(file)
        if known["data"]["fingerprint"] != self.dataset.fingerprint:
            name = known["data"]["name"]
            raise EdgecifarError(
                f"{file} is of other images ({name}) than these ({self.dataset.name}): {mend}"
            )
        self._known.append(entries(known))
        self._benches += known["benches"]

    def write(self) -> None:
        """Write all that is finished, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, results.as_bytes(self.result()))

    def measure(self) -> None:
        """Time the files of every member's first seed in one interleaved bench, and write."""
        from edgecifar.runtime.benchmark import bench

        self.write()
        files = self._files()
        if files and not self._measured(files):
            journal = self.path.with_suffix(".bench-journal")
            timed = bench([path for path, _ in files], journal=journal)
            models = [
                _merged(row, path, own)
                for row, (path, own) in zip(timed["models"], files, strict=True)
            ]
            data = {"name": self.dataset.name, "n": len(self.dataset.test)}
            data |= {"fingerprint": self.dataset.fingerprint}
            self._benches.insert(0, results.seal(timed | {"models": models, "data": data}))
            self.write()
            journal.unlink(missing_ok=True)

    def result(self) -> dict[str, Any]:
        """Return the sealed result."""
        found = {name: self._entries(name) for name in self.tasks}
        members = [(m, _of_seeds(found[m.recipe], m.seeds)) for m in self.study.members]
        steps = [(step, _of_seeds(found[step.recipe], (0,))) for step in self.study.ablation]
        content = {
            "schema": results.SCHEMA,
            "kind": KIND,
            "title": self.study.title,
            "note": self.study.note,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "data": {
                "name": self.dataset.name,
                "fingerprint": self.dataset.fingerprint,
                "n": len(self.dataset.test),
                "classes": list(self.dataset.classes),
            },
            "members": [
                {
                    "recipe": Path(member.recipe).stem,
                    "label": member.label,
                    "reported": member.reported,
                    "asked": member.asked,
                    "tried": member.tried,
                    "note": member.note,
                    "seeds": list(member.seeds),
                    "features": self._features[member.recipe],
                    **_summary(repeated),
                }
                for member, repeated in members
            ],
            "ablation": [
                {
                    "recipe": Path(step.recipe).stem,
                    "change": step.change,
                    "int8": step.int8,
                    "features": self._features[step.recipe],
                    **_summary(once),
                }
                for step, once in steps
            ],
            "benches": self._kept(found),
        }
        return results.seal(content)

    def _entries(self, name: str) -> list[dict[str, Any]]:
        """Return each seed of a recipe: as it was carried out, else as an earlier result has it."""
        found = []
        for task in self.tasks[name]:
            entry = self._read(task) or self._recall(task)
            found += [entry] if entry else []
        return found

    def _read(self, task: "Task") -> dict[str, Any] | None:
        """Return what a task has come to; None, and a line once, if it is unfinished or damaged."""
        if not self._has(task):
            return None
        try:
            return read_entry(task)
        except EdgecifarError as error:  # the others are told all the same
            if str(error) not in self._told:
                click.echo(f"left out: {error}", err=True)
            self._told.add(str(error))
            return None

    def _first(self, member: "Member") -> "Task":
        tasks = self.tasks[member.recipe]
        return next(task for task in tasks if task.recipe.seed == member.seeds[0])

    def _has(self, task: "Task") -> bool:
        return task.is_finished(self.dataset)

    def _recall(self, task: "Task") -> dict[str, Any] | None:
        """Return what an earlier result has of a task, if it was of the same recipe."""
        key = (Path(task.name).stem, task.recipe.seed)
        held = (known[key] for known in self._known if key in known)
        return next((entry for entry in held if task.is_made_by(entry["recipe"])), None)

    def _files(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return the files of each finished member that have a role, with what is known of them.

        Both kinds of int8 file: which is shown may be another once there are more seeds.
        """
        chosen = []
        for member in self.study.members:
            task = self._first(member)
            entry = self._read(task)
            files = {file["role"]: file for file in entry["files"]} if entry else {}
            for own in filter(None, map(files.get, ROLES)):
                found = sorted(task.folder.glob(f"*/exports/{own['file']}"))
                chosen += [(path, own) for path in found[:1]]
        return chosen

    def _measured(self, files: list[tuple[Path, dict[str, Any]]]) -> bool:
        wanted = [own["sha256"] for _, own in files]
        sound = (bench["models"] for bench in self._benches if bench["valid"])
        return any([row.get("sha256") for row in rows] == wanted for rows in sound)

    def _kept(self, found: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return the newest valid bench, and others that alone have a file of this result."""
        left = {f["sha256"] for seeds in found.values() for entry in seeds for f in entry["files"]}
        kept = []
        for bench in sorted(self._benches, key=lambda bench: not bench["valid"]):
            measured = {row.get("sha256") for row in bench["models"]}
            if measured & left:
                kept.append(bench)
                left -= measured
        return kept


def read(path: Path) -> dict[str, Any]:
    """Read a study's result and check that nobody has changed it.

    Raises EdgecifarError if there is none, or it is no study, of another schema, or was edited.
    """
    if not is_result(path):  # said here, since others are written by other commands
        raise EdgecifarError(f"{path} is not a study's result: `edgecifar run *-study` writes one")
    return results.read(path, kind=KIND)


def is_result(path: Path) -> bool:
    """Tell a study's result from that of a bench, without checking it."""
    try:
        return json.loads(path.read_bytes()).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def entries(result: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what a result has of each recipe and seed."""
    parts = [*result["ablation"], *result["members"]]
    return {(part["recipe"], entry["seed"]): entry for part in parts for entry in part["runs"]}


def int8_role(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return which kind of int8 file of a recipe's seeds is the better on validation images.

    Of equals that is the one that was fine-tuned.
    """

    def on_average(role: str) -> float:
        files = [file for run in runs for file in run["files"] if file["role"] == role]
        tops = [file["parity"]["file"]["top1"] for file in files if file["parity"]]
        return mean_of(tops).value if tops else -1.0

    return max(ROLES[1:], key=on_average)


def on_validation(member: Mapping[str, Any]) -> float:
    """Return the mean top-1 of a member's float models on validation images, to choose by."""
    return mean_of([one["metrics"]["validation"]["top1"] for one in member["runs"]]).value


def mean_over_seeds(member: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return `top1`, `low`, `high` and number of `seeds` of a member's files of one role.

    The interval is that of the mean over the seeds, or of the images if there is one seed.
    """
    mean = member["mean"][role]
    if mean["seeds"] > 1:
        return mean
    files = (file for one in member["runs"] for file in one["files"] if file["role"] == role)
    accuracy = next(files)["accuracy"]
    return mean | {"low": accuracy["low"], "high": accuracy["high"]}


def latency_of(result: Mapping[str, Any], sha256: str) -> tuple[int, dict[str, Any]] | None:
    """Return which bench timed a file, counted from 0, and its row there; None if none did."""
    for index, bench in enumerate(result["benches"]):
        for row in bench["models"]:
            if row.get("sha256") == sha256 and row.get("latency_us"):
                return index, row
    return None


def _features(task: "Task", dataset: "Dataset") -> dict[str, str | int]:
    """Return what a recipe's network is made of; nothing if it can't be built for these images.

    Its own run, if there is to be one, then says why.
    """
    try:
        return features(task.recipe, dataset)
    except EdgecifarError:
        return {}


def _merged(row: dict[str, Any], path: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a timed file the accuracy that the bench of its own recipe has measured."""
    if "error" in row:
        raise EdgecifarError(f"{path} can't be measured: {row['error']}")
    if row.get("sha256") != own["sha256"]:
        raise EdgecifarError(
            f"{path} isn't the file that its recipe's bench.json measured: remove that bench.json "
            "and repeat the command"
        )
    return row | {"file": path.name, "accuracy": own["accuracy"]}


def _of_seeds(found: list[dict[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    return [entry for seed in seeds for entry in found if entry["seed"] == seed]


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the seeds of a recipe and the mean of each kind of file over them."""
    values: dict[str, list[float]] = {role: [] for role in ROLES}
    for entry in found:
        for file in entry["files"]:
            if file["role"] in values:
                values[file["role"]].append(file["accuracy"]["top1"])
    means = {role: mean_of(tops) for role, tops in values.items() if tops}
    return {
        "mean": {
            role: {"top1": m.value, "low": _share(m.low), "high": _share(m.high), "seeds": m.n}
            for role, m in means.items()
        },
        "runs": found,
    }


def _share(value: float | None) -> float | None:
    """Keep the end of an interval of percentages among percentages."""
    return None if value is None else min(100.0, max(0.0, value))
