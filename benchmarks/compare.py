"""Compare two bench results, file by file: what got worse beyond chance, for a user's CI."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.statistics import PairedDifference, paired_difference, quotient
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import Estimate, paired_ratio


@dataclass(frozen=True)
class Limits:
    """What is still accepted: points of top-1 lost, and how many times the old latency."""

    max_drop: float = 0.5
    max_slowdown: float = 1.1

    def __post_init__(self) -> None:
        if not (self.max_drop >= 0 and self.max_slowdown >= 1):  # nor NaN
            raise EdgecifarError("the drop is 0 points or more, and the slowdown 1 or more")


@dataclass(frozen=True)
class Change:
    """One file in both results.

    `accuracy` is new minus old top-1 in points, paired by image; `slowdown` the new latency over
    the old; `flipped` images are answered otherwise, `per_class` (name, points) lists the classes
    whose accuracy moved, the most first. `regressions` are beyond the limit with their whole
    interval, `hints` with a part of it.
    """

    name: str
    accuracy: PairedDifference | None
    slowdown: Estimate | None
    flipped: int | None
    per_class: tuple[tuple[str, float], ...]
    regressions: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """All files of two results, and those that only one of them has."""

    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def regressions(self) -> tuple[str, ...]:
        """Every regression, with the file's name."""
        return tuple(f"{c.name}: {text}" for c in self.changes for text in c.regressions)


def compare(
    old: Path, new: Path, limits: Limits | None = None, *, accuracy_only: bool = False
) -> Comparison:
    """Compare the result files `old` and `new`.

    Files are matched by name (and threads, batch, format, path and interpreter as far as they tell
    those of one name apart in either); two results with one file each are matched whatever its
    name. Where both begin with the same file, it is what the others are measured by: it has no
    slowdown itself, and counts neither for these rules nor as a comparison. Raises EdgecifarError
    if a result was edited or is of another schema, and if the two can't be compared: other images
    or none in one of them, and unless `accuracy_only` another device, interpreter, number of
    threads or of images a call, or an invalid run.
    """
    limits = limits or Limits()
    before, after = results.read(old), results.read(new)
    _require_same_images((old, before), (new, after))
    if not accuracy_only:
        _require_same_device(before, after)
        for path, result in ((old, before), (new, after)):
            if not result.get("valid", True):
                raise EdgecifarError(
                    f"{path} is invalid ({result['doubts'][0]}): measure it again, or compare "
                    "with --accuracy-only"
                )
    old_rows, new_rows = before["models"], after["models"]
    shared = _share_first(before, after)
    # What all are measured by is no comparison, and doesn't stand for one that is missing.
    pairs, only_old, only_new = _match(old_rows[shared:], new_rows[shared:])
    if not pairs:
        raise EdgecifarError(
            f"{old} and {new} have no file in common{' but the first' if shared else ''}: bench "
            "files of the same name"
        )
    if shared:
        pairs = [(old_rows[0]["name"], old_rows[0], new_rows[0]), *pairs]
    changes = []
    for name, first, second in pairs:
        slowdown = None
        if not accuracy_only:
            _require_same_call(name, first, second)
            yardstick = shared and first is old_rows[0]
            slowdown = None if yardstick else _slowdown(first, second, shared)
        changes.append(_change(name, (first, second), slowdown, (before, after), limits))
    if not any(change.accuracy or change.slowdown or change.regressions for change in changes):
        missing = "accuracies" if accuracy_only else "accuracies or latencies"
        raise EdgecifarError(f"{old} and {new} have no {missing} in common: bench with --data")
    return Comparison(tuple(changes), only_old, only_new)


def _require_same_images(*both: tuple[Path, Mapping[str, Any]]) -> None:
    first, second = (result.get("data") for _, result in both)
    without = [path for path, result in both if result.get("data") is None]
    if len(without) == 2:
        return
    if without:
        raise EdgecifarError(
            f"{without[0]} knows no accuracy and the other result does: measure both with the "
            "same --data"
        )
    for key, what in (
        ("n", "another number of images"),
        ("fingerprint", "other images, or of the same ones scaled to other sizes"),
    ):
        if first[key] != second[key]:
            raise EdgecifarError(
                f"the two results are of {what} ({first['name']}, n = {first['n']:,}, and "
                f"{second['name']}, n = {second['n']:,}): measure both with the same --data, on "
                "models of the same image sizes"
            )
    if first["labels"] != second["labels"]:
        raise EdgecifarError(
            "the two results have the same images in another order, as older versions had: "
            "measure both anew"
        )


def _require_same_device(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    first, second = old.get("environment") or {}, new.get("environment") or {}
    for key, what in (
        ("board", "board"),
        ("cpu", "processor"),
        ("cores", "number of cores"),
        ("features", "set of processor features"),
        ("machine", "architecture"),
        ("governor", "governor"),
    ):
        if first.get(key) != second.get(key):
            apart = _differing(first.get(key), second.get(key))
            raise EdgecifarError(
                f"the two results are of another {what} ({apart}): measure both on the same "
                "device, or compare with --accuracy-only"
            )
    if old["settings"].get("threads") != new["settings"].get("threads"):
        raise EdgecifarError(
            f"the two results are of other threads ({old['settings'].get('threads')} and "
            f"{new['settings'].get('threads')}): measure both with the same --threads"
        )


def _differing(first: Any, second: Any) -> str:
    """Tell two values that differ; of lists what is in one alone."""
    if isinstance(first, list) and isinstance(second, list):
        return f"{', '.join(sorted(set(first) ^ set(second)))} in one alone"
    return f"{first} and {second}"


def _require_same_call(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if "error" in old or "error" in new:
        return
    for option in ("threads", "batch"):
        first, second = old.get(option, 1), new.get(option, 1)
        if first != second:
            raise EdgecifarError(
                f"{name} ran with --{option} {first} and with {second}: measure both alike, or "
                "compare with --accuracy-only"
            )
    first, second = old.get("backend"), new.get("backend")
    if first and second and first != second:
        raise EdgecifarError(
            f"{name} ran in {first} and in {second}: measure both with the same interpreter, or "
            "compare with --accuracy-only"
        )


def _match(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[str, Mapping, Mapping]], tuple[str, ...], tuple[str, ...]]:
    if len(old) == len(new) == 1:
        names = dict.fromkeys((old[0]["name"], new[0]["name"]))
        return [(" and ".join(names), old[0], new[0])], (), ()
    first, second = _keyed(old, new)
    pairs = [(_label(key), first[key], second[key]) for key in first if key in second]
    only_old = tuple(_label(key) for key in first if key not in second)
    return pairs, only_old, tuple(_label(key) for key in second if key not in first)


def _keyed(*both: Sequence[Mapping[str, Any]]) -> list[dict[tuple[str, ...], Mapping[str, Any]]]:
    """Return each result's rows by name, and by what tells those of one name apart in either."""
    found: list[dict[tuple[str, ...], Mapping[str, Any]]] = [{} for _ in both]
    for name in dict.fromkeys(row["name"] for rows in both for row in rows):
        alike = [[row for row in rows if row["name"] == name] for rows in both]
        keys = [[(name,)] * len(rows) for rows in alike]
        for tell in _APART:
            values = [[tell(row) for row in rows] for rows in alike]
            if _are_unique(keys) or all(len(set(each)) < 2 for each in values):
                continue
            keys = [
                [(*key, value) for key, value in zip(*side, strict=True)]
                for side in zip(keys, values, strict=True)
            ]
        if not _are_unique(keys):
            raise EdgecifarError(f"a result has {name} twice: bench each file once")
        for rows, known, own in zip(alike, found, keys, strict=True):
            known.update(zip(own, rows, strict=True))
    return found


def _are_unique(keys: Sequence[Sequence[tuple[str, ...]]]) -> bool:
    return all(len(set(each)) == len(each) for each in keys)


def _interpreter(row: Mapping[str, Any]) -> str:
    """Return an interpreter's name; of what didn't load that which was asked for, if one was."""
    backend = row.get("backend") or row.get("backend_asked") or ""
    return backend.split(" ")[0].replace("_", "-")


# What may tell a row from others of its name, first what each row knows of itself.
_APART: tuple[Callable[[Mapping[str, Any]], str], ...] = (
    lambda row: f"{row.get('threads', 1)} threads",
    lambda row: f"batch {row.get('batch', 1)}",
    lambda row: Path(row["file"]).suffix,
    lambda row: str(row["file"]),
    _interpreter,
)


def _label(key: tuple[str, ...]) -> str:
    return ", ".join(key)


def _share_first(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether both results measure others against the very same file."""
    known = {result["models"][0].get("sha256") for result in (old, new)}
    several = max(len(result["models"]) for result in (old, new)) > 1
    return len(known) == 1 and None not in known and several


def _slowdown(old: Mapping[str, Any], new: Mapping[str, Any], shared: bool) -> Estimate | None:
    """Return new over old latency; the two runs' intervals add up as independent errors do.

    Where both runs began with the same file, each latency is taken as a multiple of that file's,
    so that a machine which is slower today doesn't count as a slower model.
    """
    if not (old.get("latency_us") and new.get("latency_us")):
        return None
    in_units = multiple if shared and old.get("ratio") and new.get("ratio") else _microseconds
    return quotient(in_units(new), in_units(old))


def multiple(row: Mapping[str, Any]) -> Estimate:
    """Return a latency as a multiple of that of the result's first file."""
    ratio = row["ratio"]
    return Estimate(ratio["value"], ratio["low"], ratio["high"])


def relative(row: Mapping[str, Any], other: Mapping[str, Any]) -> Estimate:
    """Return the latency of a row over that of another in the same result.

    Medians of rounds are paired, as each round met both alike. Older results don't have them: what
    is known there of both against the first file makes a wider interval.
    """
    rounds = row.get("rounds_us"), other.get("rounds_us")
    if None in rounds:
        return quotient(multiple(row), multiple(other))
    return paired_ratio(*rounds)


def _microseconds(row: Mapping[str, Any]) -> Estimate:
    latency = row["latency_us"]
    return Estimate(latency["median"], latency["low"], latency["high"])


def _change(
    name: str,
    rows: tuple[Mapping[str, Any], Mapping[str, Any]],
    slowdown: Estimate | None,
    both: tuple[Mapping[str, Any], Mapping[str, Any]],
    limits: Limits,
) -> Change:
    regressions, hints = [], []
    if "error" in rows[1] and "error" not in rows[0]:
        regressions.append(f"it fails now ({rows[1]['error']})")
    accuracy, flipped, per_class = _answers(rows, both)
    if accuracy and -accuracy.points > limits.max_drop:
        text = (
            f"{-accuracy.points:.2f} points of top-1 lost (95 % interval {-accuracy.high:.2f} to "
            f"{-accuracy.low:.2f}, {limits.max_drop:g} allowed)"
        )
        (regressions if -accuracy.high > limits.max_drop else hints).append(text)
    if slowdown and slowdown.value > limits.max_slowdown:
        text = (
            f"{slowdown.value:.3f} times the latency (95 % interval {slowdown.low:.3f} to "
            f"{slowdown.high:.3f}, {limits.max_slowdown:g} allowed)"
        )
        (regressions if slowdown.low > limits.max_slowdown else hints).append(text)
    return Change(name, accuracy, slowdown, flipped, per_class, tuple(regressions), tuple(hints))


def _answers(
    rows: tuple[Mapping[str, Any], Mapping[str, Any]],
    both: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> tuple[PairedDifference | None, int | None, tuple[tuple[str, float], ...]]:
    """Compare two files' answers image by image."""
    told = [row.get("accuracy") for row in rows]
    data = both[0].get("data")
    if not all(told) or not data:
        return None, None, ()
    right = [results.unpack_bits(one["correct"], one["n"]) for one in told]
    difference = paired_difference(*right)
    if not all("predicted" in one for one in told) or "labels" not in data:
        return difference, None, ()
    count = len(data["classes"])
    said = [results.unpack_classes(one["predicted"], count) for one in told]
    labels = results.unpack_classes(data["labels"], count)
    return (
        difference,
        int((said[0] != said[1]).sum()),
        class_changes(right, labels, data["classes"]),
    )


def class_changes(
    right: Sequence[np.ndarray], labels: np.ndarray, classes: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """Return (class, points) for the classes whose accuracy moved between two bool [N]."""
    found = []
    for index, name in enumerate(classes):
        of_class = labels == index
        if of_class.any():
            moved = 100 * (right[1][of_class].mean() - right[0][of_class].mean())
            found.append((name, float(moved)))
    return tuple(sorted((item for item in found if item[1]), key=lambda item: -abs(item[1])))


def markdown(comparison: Comparison) -> str:
    """Lay the comparison out as GitHub's Markdown."""
    header = (
        "file", "top-1, points", "95 % interval", "p", "latency", "95 % interval",
        "answers changed",
    )  # fmt: skip
    table = markdown_table([header, *map(_cells, comparison.changes)])
    return "\n".join([table, "", *verdict(comparison, "- ")]) + "\n"


def lines(comparison: Comparison) -> list[str]:
    """Lay the comparison out for a terminal."""
    from edgecifar.runtime.tables import table

    header = ("file", "top-1", "interval", "p", "latency", "interval", "changed")
    rows = [_cells(change) for change in comparison.changes]
    return [table(header, rows), "", *verdict(comparison)]


def verdict(comparison: Comparison, mark: str = "") -> list[str]:
    """Say what got worse, what may have, and what could not be compared."""
    told = [f"{mark}regression: {text}" for text in comparison.regressions]
    told += [
        f"{mark}perhaps beyond the limit: {change.name}: {text}"
        for change in comparison.changes
        for text in change.hints
    ]
    for change in comparison.changes:
        if change.per_class:
            moved = ", ".join(f"{name} {points:+.2f}" for name, points in change.per_class[:3])
            told.append(f"{mark}{change.name}: classes that moved most, in points: {moved}")
    for names, where in ((comparison.only_old, "old"), (comparison.only_new, "new")):
        if names:
            told.append(f"{mark}only in the {where} result: {', '.join(names)}")
    return told if comparison.regressions else [*told, f"{mark}no regression"]


def _cells(change: Change) -> tuple[str, ...]:
    accuracy, slow = change.accuracy, change.slowdown
    return (
        change.name,
        f"{accuracy.points:+.2f}" if accuracy else "",
        f"{accuracy.low:+.2f} to {accuracy.high:+.2f}" if accuracy else "",
        f"{accuracy.test.p:.3f}" if accuracy else "",
        f"{slow.value:.3f}" if slow else "",
        f"{slow.low:.3f} to {slow.high:.3f}" if slow else "",
        "" if change.flipped is None else f"{change.flipped:,}",
    )
