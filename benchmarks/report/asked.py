"""What a bench's files were to reach, beside what they did, as a table of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report.load import Bench
from edgecifar.benchmarks.report.tables import Cell, Table
from edgecifar.benchmarks.targets import (
    COLUMNS,
    Figure,
    Judged,
    Target,
    judge,
    read_targets,
)
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import load_toml

_OUTCOME = "Outcome"


def targets_of(bench: Path, chosen: Path | None = None) -> tuple[Target, ...]:
    """Read the targets of the bench result at `bench`: those chosen, or of its name beside it.

    A file beside it that states no targets, as a recipe of the same name, is none. Raises
    EdgecifarError if the chosen file is missing or damaged.
    """
    beside = bench.with_suffix(".toml")
    if chosen or (beside.is_file() and _states_targets(beside)):
        return read_targets(chosen or beside)
    return ()


def _states_targets(path: Path) -> bool:
    try:
        return "targets" in load_toml(path)
    except (EdgecifarError, OSError):
        return False  # someone else's file


@dataclass(frozen=True)
class Asked:
    """Targets as a table, and in a sentence how many of them are met and which are missed."""

    table: Table
    outcome: str


def asked(bench: Bench) -> Asked | None:
    """Judge the targets of a bench; None if it has none. Only what was asked has a column."""
    judged = judge(bench.raw, bench.targets)
    if not judged:
        return None
    wanted = [any(one.figures[i].asked for one in judged) for i in range(len(COLUMNS))]
    rows = tuple(
        (
            Cell(one.target.file, f"against {one.target.against}"),
            Cell(one.outcome or words.NOTHING, strong=bool(one.missed)),
            *map(_cell, compress(one.figures, wanted)),
        )
        for one in judged
    )
    columns = ("File", _OUTCOME, *map(words.title, compress(COLUMNS, wanted)))
    table = Table("What was asked, and what was reached", columns, rows, (_OUTCOME,))
    return Asked(table, _outcome([one for one in judged if one.outcome]))


def _outcome(judged: Sequence[Judged]) -> str:
    missed = [f"{one.target.file} ({', '.join(one.missed)})" for one in judged if one.missed]
    told = f"{len(judged) - len(missed)} of {words.number(len(judged), 'target')} met"
    return f"{told}; missed by {', '.join(missed)}." if missed else f"{told}."


def _cell(figure: Figure) -> Cell:
    told = figure.interval, figure.asked and f"asked {figure.asked}"
    return Cell(figure.shown, "\n".join(filter(None, told)))
