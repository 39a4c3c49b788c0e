"""A study's tables: systems beside what is reported of them, their features, every repetition."""

from collections.abc import Mapping
from typing import Any

from edgecifar.benchmarks import words
from edgecifar.benchmarks.compare import relative
from edgecifar.benchmarks.report.study_load import File, Repetition, StudyData, System
from edgecifar.benchmarks.report.tables import Cell, Table
from edgecifar.benchmarks.statistics import confused_pairs, paired_difference
from edgecifar.compress.quantize import Quantization

NOT_RUN = "not run"
METHODS = {"int8": "fine-tuned", "int8_post": "post-training"}  # what int8 files are made by
_EMPTY = Cell(words.NOTHING)
_PAIRS = 8


def standings(study: StudyData) -> Table:
    """Tabulate each system: reported, asked, ours as float and int8, and what its files cost.

    All that is said of int8 is of one file, the better one on validation images.
    """
    columns = (
        "System", "Ours, float32", "Ours, int8", "Reported", "Asked", "Same answers", "Size",
        "Latency", "Speed",
    )  # fmt: skip
    rows = tuple(_standing(study, index, system) for index, system in enumerate(study.members))
    return Table(f"Top-1 on {study.raw['data']['n']:,} test images", columns, rows)


def features(study: StudyData) -> Table:
    """Tabulate what systems are made of, a system a column."""
    told = [system.raw["features"] for system in study.members]
    keys = dict.fromkeys(key for one in told for key in one)
    rows = tuple(
        (Cell(words.title(key)), *(Cell(_feature(one.get(key))) for one in told)) for key in keys
    )
    columns = ("Feature", *(system.label for system in study.members))
    caption = (
        "Read off each network and the recipe that its figures were made with; of what was not "
        f"run, off its recipe of {study.raw['created'][:10]}"
    )
    return Table(caption, columns, rows, texts=columns)


def repetitions(study: StudyData) -> Table:
    """Tabulate every seed: losses and accuracies of each split, and what the training took."""
    columns = (
        "System", "Training", "Validation", "Test, float32", "Test, int8", "ECE as trained",
        "Epochs", "Training time", "Fine-tuning",
    )  # fmt: skip
    rows = tuple(_repetition(system, one) for system in study.members for one in system.repetitions)
    caption = (
        "Every repetition at the epoch that was kept: top-1, and beneath it the loss, of training "
        "as the recipe has it (label smoothing, L2), else cross-entropy alone. Export divides the "
        "logits by one number, so that a file's ECE is mostly smaller than the network's as "
        "trained: beneath that, where it was measured, stands the float32 file's"
    )
    return Table(caption, columns, rows)


def ablation(study: StudyData) -> Table:
    """Tabulate the steps of the ablation that were run, each against the one before."""
    columns = ("Step", "Top-1", "Against the row before", "Validation", "Epochs", "Training time")
    rows, before, last = [], None, -1
    for index, step in enumerate(study.steps):
        if file := step_file(step):
            told = "" if index == last + 1 else f"\nagainst row {last + 1}"
            against = _against(file, before, told)
            rows.append(_step(numbered(index, step), step, file, against))
            before, last = file, index
    caption = (
        "One change a row, seed 0 of each, compared image by image. The tests are of these "
        "networks: trained with another seed each would be better or worse by some tenths of a "
        "point"
    )
    return Table(caption, columns, tuple(rows))


def pairs(study: StudyData) -> Table | None:
    """Tabulate the pairs of classes that systems confuse most, a system a column."""
    found = {
        system.label: _confusions(system.first) for system in study.members if system.first
    }  # fmt: skip
    total: dict[tuple[str, str], int] = {}
    for counts in found.values():
        for pair, count in counts.items():
            total[pair] = total.get(pair, 0) + count
    shown = sorted(total, key=lambda pair: -total[pair])[:_PAIRS]
    rows = tuple(
        (
            Cell(f"{true} taken for {predicted}"),
            *(Cell(str(counts.get((true, predicted), 0))) for counts in found.values()),
        )
        for true, predicted in shown
    )
    caption = "The most confused pairs of all systems together, in test images"
    return Table(caption, ("Pair", *found), rows) if rows else None


def numbered(index: int, step: System) -> str:
    """Return what a step of the ablation is called."""
    return f"{index + 1}. {step.label}"


def step_file(step: System) -> File | None:
    """Return the file that a step of the ablation is measured by."""
    files = step.first.files if step.first else {}
    return files.get("int8" if step.raw["int8"] else "float")


def latency(file: File, study: StudyData) -> str:
    """Return such as `195 µs [2]`."""
    return _of_bench(words.microseconds(file.median), file, study)


def _of_bench(told: str, file: File, study: StudyData) -> str:
    """Tell which bench timed a file: only what one has measured can be compared."""
    several = len(study.benches) > 1 and file.bench is not None
    return f"{told} [{file.bench + 1}]" if several else told


def fine_tuning(one: Repetition) -> Mapping[str, Any] | None:
    """Return what is told of the fine-tuning for int8 of the float model itself."""
    kept = tuple(one.raw["recipe"]["quantize"]["keep_float"])
    name = Quantization(keep_float=kept).run_name(one.raw["stages"][0]["name"])
    return next((stage for stage in one.raw["stages"] if stage["name"] == name), None)


def _standing(study: StudyData, index: int, system: System) -> tuple[Cell, ...]:
    reported = system.raw["reported"]
    name = Cell(system.label, system.raw["note"], index)
    mean = system.mean("float")
    told = _EMPTY
    if reported is not None:
        gap = f"ours {words.signed(mean['top1'] - reported)}" if mean else ""
        told = Cell(words.percent(reported), gap)
    asked = _EMPTY
    if system.asked is not None:
        missed = system.outcome.startswith("missed")
        asked = Cell(words.percent(system.asked), system.outcome, strong=missed)
    if not system.first:
        return name, Cell(NOT_RUN), _EMPTY, told, asked, *[_EMPTY] * 4
    return (
        name,
        _mean(system, "float"),
        _small(system),
        told,
        asked,
        _agreement(system),
        _two(system, lambda file: words.size(file.raw["payload_bytes"])),
        _two(system, lambda file: latency(file, study)),
        _speed(system, study),
    )


def _mean(system: System, role: str) -> Cell:
    mean = system.mean(role)
    if not mean:
        return _EMPTY
    span = words.percents(*system.interval(role))
    return Cell(words.percent(mean["top1"]), f"{span}\n{system.seeds(role)}")


def _small(system: System) -> Cell:
    """Give the int8 file that is shown with the method it was made by, and what the other does."""
    cell = _mean(system, system.int8)
    if cell is _EMPTY:
        return cell
    (other,) = METHODS.keys() - {system.int8}
    told = [cell.detail, METHODS[system.int8]]
    if mean := system.mean(other):
        told.append(f"(other: {words.percent(mean['top1'])})")
    return Cell(cell.text, "\n".join(told))


def _agreement(system: System) -> Cell:
    found = [system.small(one) for one in system.repetitions]
    shares = [file.raw["agreement"] for file in found if file]
    if not shares:
        return _EMPTY
    low, high = words.percent(min(shares)), words.percent(max(shares))
    return Cell(low, "" if low == high else f"to {high}")


def _two(system: System, tell) -> Cell:
    small, original = system.small(), system.first.files.get("float")
    return Cell(tell(small) if small else words.NOTHING, tell(original) if original else "")


def _speed(system: System, study: StudyData) -> Cell:
    small, original = system.small(), system.first.files.get("float")
    if not (small and original and small.median and original.median):
        return _EMPTY
    if small.bench != original.bench:
        return Cell(words.NOTHING, "two benches")
    found = relative(original.measured, small.measured)
    told = _of_bench(words.times(found.value), small, study)
    return Cell(told, words.ratios(found.low, found.high))


def _feature(value: Any) -> str:
    return words.NOTHING if value is None else words.plain(value)


def _repetition(system: System, one: Repetition) -> tuple[Cell, ...]:
    run, test = one.run, one.run.metrics.get("test", {})
    validation, stage = run.metrics.get("validation", {}), one.raw["stages"][0]
    place = stage.get("best_epoch", 0) - 1
    tuned = fine_tuning(one)
    told = words.training(stage)
    if one.raw["recipe"].get("transfer") and "feature_seconds" not in stage.get("head", {}):
        told.append("without its head's")  # which was not timed once
    small = system.small(one)
    return (
        Cell(system.label, f"seed {one.raw['seed']}"),
        _scored(_at(run.history, "accuracy", place, 100), _at(run.history, "loss", place, 1)),
        _scored(validation.get("top1"), validation.get("loss")),
        _scored(test.get("top1"), test.get("loss")),
        Cell(words.percent(small.accuracy["top1"])) if small else _EMPTY,
        _calibration(one),
        Cell(str(stage.get("epochs", words.NOTHING)), f"epoch {place + 1} kept"),
        Cell(words.training_time(stage), "\n".join(told)),
        Cell(words.duration(tuned.get("train_seconds")), words.number(tuned["epochs"], "epoch"))
        if tuned
        else _EMPTY,
    )


def _calibration(one: Repetition) -> Cell:
    """Give the ECE of the network as trained, and that of its file, which is another."""
    trained, file = one.run.metrics.get("test", {}).get("ece"), one.files.get("float")
    if trained is None:
        return _EMPTY
    exported = file.accuracy.get("ece") if file else None
    told = "" if exported is None else f"file {words.percent(100 * exported)}"
    return Cell(words.percent(100 * trained), told)


def _at(history: Mapping[str, Any], column: str, place: int, scale: float) -> float | None:
    values = history.get(column, ())
    return scale * float(values[place]) if 0 <= place < len(values) else None


def _scored(top1: float | None, loss: float | None) -> Cell:
    return Cell(words.percent(top1), "" if loss is None else f"{loss:.4f}")


def _step(name: str, step: System, file: File, against: Cell) -> tuple[Cell, ...]:
    stage = (step.raw["int8"] and fine_tuning(step.first)) or step.first.raw["stages"][0]
    told = f"n = {file.accuracy['n']:,}"
    return (
        Cell(name),
        Cell(words.percent(file.accuracy["top1"]), f"{words.percents(*file.interval)}\n{told}"),
        against,
        Cell(words.percent(stage["top1"].get("validation"))),
        Cell(str(stage["epochs"])),
        Cell(words.training_time(stage)),
    )


def _against(file: File, before: File | None, told: str) -> Cell:
    """Compare a step with the last one before it that was run, image by image.

    `told` is added where that is another than the row before.
    """
    if before is None or file.accuracy["n"] != before.accuracy["n"]:
        return _EMPTY
    found = paired_difference(before.correct, file.correct)
    span = words.interval(found.low, found.high, words.signed)
    return Cell(words.signed(found.points), f"{span}\n{words.p_value(found.test.p)}{told}")


def _confusions(one: Repetition) -> dict[tuple[str, str], int]:
    matrix = one.run.metrics.get(one.run.split or "", {}).get("confusion")
    names = one.run.classes
    if not matrix:
        return {}
    return {
        (names[pair.true], names[pair.predicted]): pair.count
        for pair in confused_pairs(matrix, top=len(names) ** 2)
    }
