"""A study's result as a Markdown table for README.md."""

from pathlib import Path

from edgecifar.benchmarks import words
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.report.load import Bench
from edgecifar.benchmarks.report.study_load import StudyData, System, load_study
from edgecifar.benchmarks.report.study_tables import latency

_COLUMNS = ("system", "reported", "asked", "ours, float32", "ours, int8", "size", "latency")
NOT_RUN = "not run yet"


def study_table(path: Path) -> str:
    """Return the result at `path` as a table and a line on how it was measured.

    Top-1 is in percent with its 95 % interval; size and latency are of the int8 file, `asked` is
    what the float model was to reach. Raises EdgecifarError if the file was changed.
    """
    study = load_study(path)
    rows = [_COLUMNS, *(_row(system, study) for system in study.members)]
    text = f"{markdown_table(rows, numbers=False)}\n\n{_footnote(study)}\n"
    return text.replace(words.SPACE, " ")


def _row(system: System, study: StudyData) -> tuple[str, ...]:
    reported = system.raw["reported"]
    told = words.percent(reported), _asked(system)
    name = f"{system.label} ({system.raw['note']})" if system.raw["note"] else system.label
    if not system.first:
        return name, *told, NOT_RUN, *[words.NOTHING] * 3
    small, how = system.small(), ""
    if system.mean("int8") and system.int8 == "int8_post":
        how = " without fine-tuning"
    return (
        name,
        *told,
        _accuracy(system, "float"),
        _accuracy(system, system.int8) + how,
        words.size(small.raw["payload_bytes"]) if small else words.NOTHING,
        latency(small, study) if small else words.NOTHING,
    )


def _asked(system: System) -> str:
    """Return such as `94.50 %, **missed by 0.89**`."""
    outcome = f"**{system.outcome}**" if _missed(system) else system.outcome
    return ", ".join(filter(None, (words.percent(system.asked), outcome)))


def _missed(system: System) -> bool:
    return system.outcome.startswith("missed")


def _accuracy(system: System, role: str) -> str:
    """Return such as `77.93 % (77.1 to 78.6, 3 seeds)`; the interval of one seed is of images."""
    mean = system.mean(role)
    if not mean:
        return words.NOTHING
    span = words.percents(*system.interval(role))
    return f"{words.percent(mean['top1'])} ({span}, {system.seeds(role)})"


def _machine(bench: Bench) -> str:
    """Return such as `AMD EPYC (avx2, fma), 2026-11-25`."""
    return f"{words.machine(bench.environment)}, {bench.raw['created'][:10]}"


def _footnote(study: StudyData) -> str:
    data = study.raw["data"]
    parts = [
        f"{data['n']:,} test images of {data['name']}. The interval of several seeds is Student's "
        "of their mean, that of one seed Wilson's of the images."
    ]
    if study.benches:
        several = len(study.benches) > 1
        runs = [
            (f"[{number}] " if several else "") + _machine(bench)
            for number, bench in enumerate(study.benches, start=1)
        ]
        parts.append(
            "Latency: median of one image on one thread, the files of a run in turns"
            f"{'; only those with one mark compare: ' if several else '; '}{'; '.join(runs)}."
        )
    for system in (system for system in study.members if _missed(system) and system.tried):
        parts.append(f"{system.label}, {system.outcome.partition(' by ')[0]}: {system.tried}")
    for bench in study.benches:
        parts += words.invalid(bench.raw.get("doubts"))
    return f"{' '.join(parts)} {study.raw['note']}".rstrip()
