"""The report of a study: many runs side by side, from one result file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report import many, study_tables, tables
from edgecifar.benchmarks.report.benches import Tile, bench_view
from edgecifar.benchmarks.report.figures import Point
from edgecifar.benchmarks.report.grid import SampleRow
from edgecifar.benchmarks.report.many import Standing
from edgecifar.benchmarks.report.origins import bench_origin, device_name, run_origin
from edgecifar.benchmarks.report.page import digits_notice, render
from edgecifar.benchmarks.report.records import as_csv, bench_records
from edgecifar.benchmarks.report.runs import run_view
from edgecifar.benchmarks.report.study_load import StudyData, System, load_study
from edgecifar.benchmarks.report.svg import Plot
from edgecifar.benchmarks.study.result import on_validation
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file

_ROLE_NAMES = {"float": "float32"} | {r: f"int8 {how}" for r, how in study_tables.METHODS.items()}


def build_study_report(
    result: Path,
    out: Path,
    *,
    images: np.ndarray | None = None,
    samples: Sequence[SampleRow] = (),
) -> Path:
    """Write one self-contained HTML page on a study's result, whatever is at `out`; return `out`.

    `images`, the test images as for `build_report`, give examples of confused pairs. Without
    `images` and `samples` the page holds no image of the data set.

    Raises EdgecifarError if the result is damaged.
    """
    text = study_page(load_study(result), images=images, samples=samples)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, text.encode())
    return out


def study_page(
    study: StudyData,
    *,
    images: np.ndarray | None = None,
    samples: Sequence[SampleRow] = (),
) -> str:
    """Return the page as HTML; arguments as for `build_study_report`."""
    shown = contents(study, images, samples)
    return render("study.html", title=full_title(study), **shown)


def full_title(study: StudyData, title: str | None = None) -> str:
    """Return the page's title, which always says so when the images are digits."""
    title = title or study.raw["title"]
    on_digits = words.on_digits(study.raw["data"]["name"]) and "digits" not in title.lower()
    return f"{title} (on digits)" if on_digits else title


def contents(
    study: StudyData, images: np.ndarray | None = None, samples: Sequence[SampleRow] = ()
) -> dict[str, Any]:
    """Return all that the page shows but its title; arguments as for `build_study_report`."""
    notices = [digits_notice()] if words.on_digits(study.raw["data"]["name"]) else []
    return {
        "notices": [notice for notice in (*notices, study.raw["note"]) if notice],
        "samples": samples,
        "dataset": words.dataset(study.raw["data"]["name"]),
        **_results(study),
        **_details(study, images),
    }


def study_markdown(study: StudyData) -> str:
    """Return a study's tables as Markdown."""
    told = [study_tables.standings(study), study_tables.repetitions(study)]
    told += [study_tables.ablation(study)]
    shown = [tables.markdown(table) for table in told if table.rows]
    doubts = [said for bench in study.benches for said in words.invalid(bench.raw.get("doubts"))]
    notices = [digits_notice()] if words.on_digits(study.raw["data"]["name"]) else []
    told = [f"{text}\n" for text in (*notices, *doubts)]
    return "\n".join([*told, *shown, study.raw["note"]]).rstrip("\n") + "\n"


def study_csv(study: StudyData) -> str:
    """Return the files that a study's benches timed as CSV."""
    records = [record for bench in study.benches for record in bench_records(bench)]
    if not records:
        raise EdgecifarError("this study has no measured files yet: carry out one of its recipes")
    return as_csv(records)


def _results(study: StudyData) -> dict[str, Any]:
    """Work out what is said of all systems together."""
    known = [(i, step) for i, step in enumerate(study.steps) if study_tables.step_file(step)]
    missing = [(i, step) for i, step in enumerate(study.steps) if (i, step) not in known]
    return {
        "tiles": _tiles(study),
        "missing": [system.label for system in study.members if not system.first],
        "missed": [system for system in study.members if system.outcome.startswith("missed")],
        "standings": study_tables.standings(study),
        "standing_plots": _standing_plots(study),
        "legend": [(i, s.label) for i, s in enumerate(study.members) if s.first],
        "features": study_tables.features(study),
        "repetitions": study_tables.repetitions(study),
        "ablation": study_tables.ablation(study) if study.steps else None,
        "ablation_plot": many.standings(
            [_step_standing(*step) for step in known],
            ["top-1"],
            "ablation",
            "Accuracy of each step",
        )
        if known
        else None,
        "steps_missing": [study_tables.numbered(*step) for step in missing],
        "pairs": study_tables.pairs(study),
    }


def _details(study: StudyData, images: np.ndarray | None) -> dict[str, Any]:
    """Work out what is said of each system, its first repetition, and of each bench."""
    known = [(i, system) for i, system in enumerate(study.members) if system.first]
    marked = [(i, system.first.run) for i, system in known]
    runs = [run for _, run in marked]
    benches = [bench_view(bench, f"b{i}") for i, bench in enumerate(study.benches)]
    parities = {
        f"{system.label}: {file.raw['name']}": file.raw["parity"]
        for _, system in known
        for file in system.first.files.values()
        if file.raw.get("parity")
    }
    return {
        "side": many.side_by_side(marked, "s") if len(runs) > 1 else None,
        "runs": [run_view(run, f"r{i}", images) for i, run in enumerate(runs)],
        "benches": benches,
        "parity": tables.parity(parities, "Exported files against Keras") if parities else None,
        "origins": [bench_origin(bench, device_name(bench)) for bench in study.benches]
        + [run_origin(run) for run in runs],
    }


def _tiles(study: StudyData) -> tuple[Tile, ...]:
    """Put the system first that is best on validation images, and what its int8 file costs."""
    known = [system for system in study.members if system.mean("float")]
    if not known:
        return ()
    best = max(known, key=lambda system: on_validation(system.raw))
    mean, small = best.mean("float"), best.small()
    reported = best.raw["reported"]
    told = [] if reported is None else [f"reported {words.percent(reported)}"]
    told += [best.raw["note"]] if best.raw["note"] else []
    found = [Tile(words.percent(mean["top1"]), f"top-1, {best.label}", ", ".join(told))]
    if small:
        method = study_tables.METHODS[best.int8]
        detail = f"{method}, float32 {words.percent(mean['top1'])}"
        as_int8 = best.mean(best.int8)
        found.append(Tile(words.percent(as_int8["top1"]), "the same as int8", detail))
        time = f"{words.microseconds(small.median)} an image" if small.median else ""
        found.append(Tile(words.size(small.raw["payload_bytes"]), "its int8 model", time))
    return tuple(found)


def _standing_plots(study: StudyData) -> list[Plot]:
    systems = [_standing(index, system) for index, system in enumerate(study.members)]
    kinds = tuple(_ROLE_NAMES.values())
    plots = [many.standings(systems, kinds, "standings")] if any(s.ours for s in systems) else []
    bench = _fullest(study)
    for cost, unit, of_bench in (("latency", "µs", bench), ("size", "kB", None)):
        points = {n: _points(study, cost, role, of_bench) for role, n in _ROLE_NAMES.items()}
        if plot := many.trade_offs(points, cost, unit, f"all-{cost}"):
            plots.append(replace(plot, caption=f"{plot.caption}{_where(study, of_bench)}"))
    return plots


def _where(study: StudyData, index: int | None) -> str:
    """Say of which bench latencies are, where there are several, and what it has not timed."""
    if index is None:
        return ""
    absent = "; ".join(_absent(study, index))
    where = "in it" if len(study.benches) > 1 else "timed"
    told = f" Not {where}: {absent}." if absent else ""
    if len(study.benches) < 2:
        return told
    return (
        f" Of bench {index + 1} alone, {words.machine(study.benches[index].environment)}, since "
        f"times of several can't be compared.{told}"
    )


def _absent(study: StudyData, bench: int) -> Iterator[str]:
    """Name the files that a bench hasn't timed, and which has."""
    for system in (system for system in study.members if system.first):
        found = {"float32": system.first.files.get("float"), "int8": system.small()}
        places = {
            kind: f"bench {file.bench + 1}" if file.median else "not timed"
            for kind, file in found.items()
            if file and (file.bench != bench or not file.median)
        }
        if len(places) == len(found) and len(set(places.values())) == 1:
            places = {"both": next(iter(places.values()))}
        for kind, place in places.items():
            of = "" if kind == "both" else f" as {kind}"
            yield f"{system.label}{of} ({place})"


def _fullest(study: StudyData) -> int:
    """Return which bench has timed most systems: only what one has timed can be compared."""
    files = (file for s in study.members if s.first for file in s.first.files.values())
    timed = Counter(file.bench for file in files if file.median)
    return max(timed, key=lambda index: (timed[index], -index), default=0)


def _standing(index: int, system: System) -> Standing:
    ours = {}
    for role, told in _ROLE_NAMES.items():
        if mean := system.mean(role):
            ours[told] = mean["top1"], system.interval(role)
    return Standing(index, system.label, system.raw["reported"], ours)


def _step_standing(index: int, step: System) -> Standing:
    file = study_tables.step_file(step)
    ours = {"top-1": (file.accuracy["top1"], file.interval)}
    return Standing(None, study_tables.numbered(index, step), None, ours)


def _points(study: StudyData, cost: str, role: str, bench: int | None) -> list[Point]:
    """Return the files of one role, of those for int8 only where it is the one that is shown."""
    points = []
    for index, system in enumerate(study.members):
        shown = system.first.files if system.first and role in ("float", system.int8) else {}
        file = shown.get(role)
        if not file or (bench is not None and file.bench != bench):
            continue
        value = file.median if cost == "latency" else file.raw["payload_bytes"] / 1e3
        if value:
            name, top1 = f"{system.label}, {file.raw['name']}", system.mean(role)["top1"]
            points.append(Point(index, name, value, top1, None, system.interval(role)))
    return points
