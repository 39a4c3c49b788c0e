"""Which file of one network to ship and why: each against the first, in plain words."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgecifar.benchmarks import words
from edgecifar.benchmarks.compare import relative
from edgecifar.benchmarks.report.load import Accuracy, Bench, Latency, Measured, Run, Speedup
from edgecifar.benchmarks.report.networks import bases
from edgecifar.benchmarks.statistics import PairedDifference, paired_difference
from edgecifar.runtime.statistics import paired_ratio

MAX_LOSS = 1.0  # points of top-1 that a file may lose against the first and still be recommended
_AS_FAST = 0.005  # a difference that the word "times" would round away
_SAME_SIZE = 1.05  # a ratio of sizes within this of one is no news
RULE = (
    f"Rule: the fastest file that loses at most {MAX_LOSS:g} point of top-1 against the first; "
    "of those that are no slower beyond chance, the smallest whose accuracy is not below the best "
    "of them beyond chance."
)
_MEASURED = "Judged on the images measured here."
_OWN_WORD = "Judged by what files say of themselves, without a test on the same images."


@dataclass(frozen=True)
class Row:
    """One file or run beside another; `gap` is the difference in top-1 in points.

    `latency` is that of a call with `batch` images, `rounds` its medians in microseconds, which
    older results don't have; `speedup` is by the image. Sizes are compared
    by `payload_bytes`, the model without metadata. `difference` is there where both kept their
    answers image by image. What compares is against the row of the name `against`. `own_word` is
    the split of an accuracy that the file says of itself and this bench did not measure, `images`
    tells then which images it is of, and `validation` is a run's top-1 on validation images.
    """

    index: int
    name: str
    kind: str = ""
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    batch: int = 1
    rounds: Sequence[float] | None = None
    speedup: Speedup | None = None
    payload_bytes: int | None = None
    file_bytes: int | None = None
    peak_bytes: int | None = None
    energy: float | None = None
    difference: PairedDifference | None = None
    gap: float | None = None
    size_ratio: float | None = None
    against: str = ""
    own_word: str = ""
    images: str = ""
    error: str | None = None
    validation: float | None = None


@dataclass(frozen=True)
class Statement:
    """One sentence about one file."""

    name: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The recommendation: `action` says what to do with `chosen`, `reason` why.

    `first` is what it was compared with, `rule` the grounds of the choice, and `others` has a
    sentence on each other file.
    """

    action: str
    chosen: Row
    first: Row
    reason: str
    rule: str = ""
    others: tuple[Statement, ...] = ()

    @property
    def headline(self) -> str:
        """The recommendation in a few words."""
        return f"{self.action} {self.chosen.name}".strip()


def bench_rows(bench: Bench) -> tuple[Row, ...]:
    """Compare the files of a bench, of several networks each with its own float form.

    Of one network that is with the first file that could be measured.
    """
    rows, found = measured_rows(bench), bases(bench)
    return tuple(
        versus(bench, row, rows[found[row.index]]) if row.index in found else row for row in rows
    )


def measured_rows(bench: Bench) -> tuple[Row, ...]:
    """Return the files of a bench by themselves."""
    rows = []
    names = _distinct_names(bench)
    for index, model in enumerate(bench.models):
        accuracy, own_word, images = model.accuracy, "", ""
        if accuracy is None and not model.error:
            accuracy, own_word, images = _own_accuracy(model.metadata)
        rows.append(
            Row(
                index,
                names[index],
                model.kind,
                accuracy,
                model.latency,
                _batch(model),
                model.raw.get("rounds_us"),
                payload_bytes=model.payload_bytes,
                file_bytes=model.file_bytes,
                peak_bytes=model.raw.get("peak_memory_bytes"),
                energy=model.energy,
                own_word=own_word,
                images=images,
                error=model.error,
            )
        )
    return tuple(rows)


def versus(bench: Bench, row: Row, base: Row) -> Row:
    """Compare a file of a bench with another: speed by the image, size, and each answer."""
    speedup = _speedup(bench.models[row.index], bench.models[base.index])
    return _against(replace(row, speedup=speedup), base)


def reference(rows: Sequence[Row]) -> Row:
    """Return the row that the others are compared with: the first that could be measured."""
    return next((row for row in rows if not row.error), rows[0])


def _batch(model: Measured) -> int:
    return model.raw.get("batch") or 1


def _speedup(model: Measured, first: Measured) -> Speedup | None:
    """Return how many times faster an image is classified than by `first`.

    None if nothing relates them: no rounds that can be paired, nor a first file of the bench that
    both were measured by.
    """
    rows = model.raw, first.raw
    if not any(all(row.get(key) for row in rows) for key in ("rounds_us", "ratio")):
        return None
    found = relative(first.raw, model.raw)
    images = _batch(model) / _batch(first)
    return Speedup(images * found.value, images * found.low, images * found.high)


def run_rows(runs: Sequence[Run]) -> tuple[Row, ...]:
    """Compare runs with the first: paired where the test images are the same."""
    rows = [
        Row(
            index,
            run.name,
            "Keras float32",
            run.accuracy,
            validation=run.metrics.get("validation", {}).get("top1"),
        )
        for index, run in enumerate(runs)
    ]
    return tuple(
        _against(row, rows[0]) if comparable(run, runs[0]) else row
        for row, run in zip(rows, runs, strict=True)
    )


def decide(rows: Sequence[Row]) -> Verdict:
    """Choose the file to ship by `RULE` and say how each compares with the first."""
    first = reference(rows)
    # More images a call are faster an image, and slower for whoever waits for one.
    measured = [r for r in rows if r.latency and not r.error and r.batch == first.batch]
    chosen = _choose(measured) if measured else max(rows, key=_on_validation)
    others = tuple(
        Statement(row.name, compare(row, first)) for row in rows if row not in (first, chosen)
    )
    if len(rows) == 1:
        return Verdict("", chosen, first, _absolute(chosen))
    if chosen.accuracy is None and chosen.latency is None:
        return Verdict("Not measured:", chosen, first, _reason(chosen, first), "", others)
    if not measured:
        return _untimed(rows, chosen, first, others)
    if not of_same_images(measured):
        rule = "Chosen by speed alone: the accuracies are of different images."
        return Verdict("Fastest:", chosen, first, _reason(chosen, first), rule, others)
    if any(row.accuracy is None for row in measured):
        rule = "Chosen by speed alone: accuracy was not measured for every file."
        return Verdict("Fastest:", chosen, first, _reason(chosen, first), rule, others)
    grounds = _OWN_WORD if any(row.own_word for row in measured) else _MEASURED
    return Verdict("Ship", chosen, first, _reason(chosen, first), f"{RULE} {grounds}", others)


def _untimed(
    rows: Sequence[Row], chosen: Row, first: Row, others: tuple[Statement, ...]
) -> Verdict:
    """Return the verdict on files or runs of which no time is known."""
    if chosen.validation is None and not of_same_images(rows):
        rule = "The accuracies are of different images."
        others = tuple(Statement(row.name, compare(row, first)) for row in rows if row is not first)
        return Verdict("Not timed:", first, first, _absolute(first), rule, others)
    rule = "Chosen on validation images." if chosen.validation is not None else ""
    return Verdict("Most accurate:", chosen, first, _reason(chosen, first), rule, others)


def of_same_images(rows: Iterable[Row]) -> bool:
    """Tell whether what is known of accuracies is of the same images, so that they compare."""
    return len({row.images for row in rows if row.accuracy}) < 2


def compare(row: Row, first: Row) -> str:
    """Say in a sentence how `row` compares with `first`."""
    if row.error:
        return f"could not be measured: {row.error}"
    speed, small = _speed(row), _size(row)
    if speed and row.batch != first.batch:
        speed += " an image"
    costs = " and ".join(part for part in (speed, small) if part)
    if not costs:
        return f"{accuracy_words(row)}, against {first.name}."
    return "; ".join(filter(None, (f"{costs} than {first.name}", accuracy_words(row)))) + "."


def accuracy_words(row: Row) -> str:
    """Say what happened to top-1, with the test behind it."""
    if row.gap is None:
        return "" if row.accuracy is None else f"{words.percent(row.accuracy.top1)} top-1"
    amount = f"{abs(row.gap):.2f} points"
    change = (
        f"{amount} lost" if row.gap < 0 else f"{amount} gained" if row.gap else "top-1 the same"
    )
    if row.difference is None:
        return f"{change} (not compared image by image, so without a test)"
    n, test = f"n = {row.difference.n:,}", row.difference.test
    if not test.only_first + test.only_second:
        return f"right and wrong on the same images ({n})"
    verdict = "significant" if test.significant else "not significant"
    return f"{change}, {verdict} ({n}, McNemar {words.p_value(test.p)})"


def _against(row: Row, first: Row) -> Row:
    if row.index == first.index:
        return row
    difference = gap = ratio = None
    if row.accuracy and first.accuracy and of_same_images((row, first)):
        gap = row.accuracy.top1 - first.accuracy.top1
        answers = first.accuracy.correct, row.accuracy.correct
        if answers[0] is not None and answers[1] is not None and len(answers[0]) == len(answers[1]):
            difference = paired_difference(*answers)
    if row.payload_bytes and first.payload_bytes:
        ratio = first.payload_bytes / row.payload_bytes
    return replace(row, difference=difference, gap=gap, size_ratio=ratio, against=first.name)


def comparable(run: Run, first: Run) -> bool:
    """Tell whether both runs were evaluated on the same images in the same order."""
    same_data = run.dataset.get("fingerprint") == first.dataset.get("fingerprint")
    return same_data and run.split == first.split


def _distinct_names(bench: Bench) -> list[str]:
    """Name files as they name themselves, and by what tells those of one name apart."""
    told = [model.name for model in bench.models]
    paths = [str(model.raw.get("file", model.name)) for model in bench.models]
    files = [Path(path).name for path in paths]
    twins = _with_several(told, files)
    told = [file if name in twins else name for name, file in zip(told, files, strict=True)]
    twins = _with_several(told, paths)
    told = [
        _end_of(path, {other for one, other in zip(told, paths, strict=True) if one == name})
        if name in twins
        else name
        for name, path in zip(told, paths, strict=True)
    ]
    for key, form in (("backend", "{} ({})"), ("threads", "{}, {} threads"),
                      ("batch", "{}, batch {}")):  # fmt: skip
        values = [str(model.raw.get(key)) for model in bench.models]
        twins = _with_several(told, values)
        told = [
            form.format(name, value) if name in twins else name
            for name, value in zip(told, values, strict=True)
        ]
    return told


def _end_of(path: str, others: Collection[str]) -> str:
    """Return as many of the last parts of a path as tell it from the others."""
    parts = Path(path).parts
    for count in range(2, len(parts)):
        end = parts[-count:]
        if sum(Path(other).parts[-count:] == end for other in others) == 1:
            return str(Path(*end))
    return path


def _with_several(names: Sequence[str], values: Sequence[str]) -> set[str]:
    """Return the names that have more than one value."""
    pairs = set(zip(names, values, strict=True))
    found = [name for name, _ in pairs]
    return {name for name in found if found.count(name) > 1}


def _own_accuracy(metadata: Mapping[str, Any]) -> tuple[Accuracy | None, str, str]:
    """Return what a file says of itself: accuracy, the split that it is of, and which images."""
    own = (metadata.get("accuracy") or {}).get("this")
    if not own:
        return None, "", ""
    accuracy = Accuracy(own["top1"], own.get("low"), own.get("high"), own.get("n"))
    split = own.get("split") or "split unknown"
    of = (metadata.get("dataset") or {}).get("fingerprint")
    return accuracy, split, f"{own.get('n')} {split} images of {of}"


def _choose(measured: Sequence[Row]) -> Row:
    good = [row for row in measured if row.gap is None or row.gap >= -MAX_LOSS] or list(measured)
    fastest = min(good, key=lambda row: row.latency.median)
    equals = [row for row in good if row is fastest or not _is_slower(row, fastest)]
    known = [row.accuracy for row in equals if row.accuracy] if of_same_images(equals) else []
    best = max(known, key=_top1, default=None)
    fitting = [row for row in equals if not _is_below(row.accuracy, best)]
    return min(fitting, key=lambda row: (row.payload_bytes or float("inf"), -_top1(row.accuracy)))


def _top1(accuracy: Accuracy | None) -> float:
    return accuracy.top1 if accuracy else float("-inf")


def _is_slower(row: Row, fastest: Row) -> bool:
    """Tell whether a file is slower beyond chance: round by round, where both know theirs."""
    if row.rounds and fastest.rounds:
        return paired_ratio(row.rounds, fastest.rounds).low > 1
    low, high = row.latency.low, fastest.latency.high
    return (low or row.latency.median) > (high or fastest.latency.median)


def _is_below(accuracy: Accuracy | None, best: Accuracy | None) -> bool:
    """Tell whether an accuracy is lower beyond chance: image by image, where both are known."""
    if not (accuracy and best):
        return False
    if accuracy.correct is not None and best.correct is not None:
        return paired_difference(best.correct, accuracy.correct).high < 0
    return (accuracy.high or 100) < (best.low or 0)  # without intervals nothing is clear


def _on_validation(row: Row) -> float:
    """Return what runs are chosen by: the test images are for telling how good the chosen is."""
    if row.validation is not None:
        return row.validation
    return row.accuracy.top1 if row.accuracy else float("-inf")


def _reason(chosen: Row, first: Row) -> str:
    if chosen.index != first.index:
        return _capital(compare(chosen, first))
    why = "No other file is faster without losing more. " if chosen.latency else ""
    return f"{why}{_absolute(chosen)}"


def _absolute(row: Row) -> str:
    parts = []
    if row.accuracy:
        low_high = words.percents(row.accuracy.low, row.accuracy.high)
        n = f"n = {row.accuracy.n:,}" if row.accuracy.n else ""
        detail = ", ".join(part for part in (low_high and f"95 % interval {low_high}", n) if part)
        parts.append(
            f"{words.percent(row.accuracy.top1)} top-1" + (f" ({detail})" if detail else "")
        )
    if row.latency:
        parts.append(f"{words.microseconds(row.latency.median)} median")
    if row.payload_bytes:
        parts.append(words.size(row.payload_bytes))
    return _capital(", ".join(parts)) + "." if parts else ""


def _speed(row: Row) -> str:
    if row.speedup is None:
        return ""
    low, high = row.speedup.low or row.speedup.value, row.speedup.high or row.speedup.value
    if abs(row.speedup.value - 1) < _AS_FAST and row.speedup.same:
        return "no faster and no slower"
    if row.speedup.faster:
        return f"{words.times(row.speedup.value)} faster"
    if row.speedup.slower:
        slower = f"{words.times(1 / row.speedup.value)} slower"
        surprise = (row.size_ratio or 1) > _SAME_SIZE  # a smaller file should have been faster
        return f"not faster on this device but {slower}" if surprise else slower
    return f"not measurably faster ({words.ratios(low, high)})"


def _size(row: Row) -> str:
    if row.size_ratio is None or 1 / _SAME_SIZE < row.size_ratio < _SAME_SIZE:
        return ""
    if row.size_ratio > 1:
        return f"{words.times(row.size_ratio)} smaller"
    return f"{words.times(1 / row.size_ratio)} larger"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
