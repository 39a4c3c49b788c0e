"""Write the report: one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report.asked import targets_of
from edgecifar.benchmarks.report.benches import BenchView, bench_view, tiles
from edgecifar.benchmarks.report.changes import change_views, device_table
from edgecifar.benchmarks.report.grid import SampleRow
from edgecifar.benchmarks.report.load import Bench, Run, load_bench, load_run
from edgecifar.benchmarks.report.many import side_by_side
from edgecifar.benchmarks.report.origins import told_apart
from edgecifar.benchmarks.report.page import digits_notice, render
from edgecifar.benchmarks.report.records import as_csv, bench_records, run_records
from edgecifar.benchmarks.report.runs import parity_entries, run_view, training_table
from edgecifar.benchmarks.report.tables import Table, markdown, parity
from edgecifar.benchmarks.report.verdict import comparable, decide
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file

_MANY = 3  # runs that are also drawn side by side, each folded away


def build_report(
    runs: Sequence[Path],
    benches: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    images: np.ndarray | None = None,
    samples: Sequence[SampleRow] = (),
) -> Path:
    """Write one self-contained HTML page on run folders and bench results; return its path, `out`.

    Any part may be missing: one run without a bench, or one bench without runs, is enough.
    `images` are the test images, uint8 [n, height, width, 3] in the stored order, for examples
    beside the most confused pairs, `samples` training images to show. Without `title` the page
    names the data set and the models.

    What is at `out` is replaced. Raises EdgecifarError if there is no input, or one is damaged.
    """
    loaded = load(runs, benches)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, page(*loaded, title=title, images=images, samples=samples).encode())
    return out


def load(
    runs: Sequence[Path], benches: Sequence[Path], targets: Path | None = None
) -> tuple[list[Run], list[Bench]]:
    """Read the inputs of a report; `targets` as for `publish`."""
    if not runs and not benches:
        raise EdgecifarError("nothing to report: give a run folder or a bench result")
    if targets and len(benches) != 1:
        raise EdgecifarError(f"{targets} is of one bench, and {len(benches)} are given: give one")
    known = [load_bench(Path(path)) for path in benches]
    aimed = [replace(bench, targets=targets_of(bench.source, targets)) for bench in known]
    return [load_run(Path(path)) for path in runs], told_apart(aimed)


def page(
    runs: Sequence[Run],
    benches: Sequence[Bench],
    *,
    title: str | None = None,
    images: np.ndarray | None = None,
    samples: Sequence[SampleRow] = (),
) -> str:
    """Return the report as HTML."""
    shown = contents(runs, benches, images, samples)
    return render("page.html", title=full_title(runs, benches, title), **shown)


def results_markdown(runs: Sequence[Run], benches: Sequence[Bench]) -> str:
    """Return verdicts and tables as Markdown."""
    views = [bench_view(bench, "bench") for bench in benches]
    parts = _notices(runs, benches)
    for view in views:
        parts.append(f"**{view.verdict.headline}** on {view.device}. {view.verdict.reason}")
        parts += words.invalid(view.doubts)
    parts += [markdown(table) for view in views for table in _tables(view)]
    if runs:
        parts.append(markdown(training_table(runs)[0]))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _tables(view: BenchView) -> list[Table]:
    pairs = view.front and view.front.pairs
    asked = view.targets and view.targets.table
    return [table for table in (pairs, asked, view.table) if table]


def results_csv(runs: Sequence[Run], benches: Sequence[Bench]) -> str:
    """Return the rows of all benches, or of the runs where there is no bench, as CSV."""
    records = [record for bench in benches for record in bench_records(bench)]
    return as_csv(records or run_records(runs))


def full_title(runs: Sequence[Run], benches: Sequence[Bench], title: str | None) -> str:
    """Return the page's title, which always says so when the images are digits."""
    names = _dataset_names(runs, benches)
    if title is None:
        models = list(dict.fromkeys(run.info.get("architecture") or run.name for run in runs))
        what = models[0] if len(models) == 1 else "Image classifiers"
        title = f"{what} on {words.dataset(names[0])}" if names else f"{what}, measured"
    if words.on_digits(*names) and "digits" not in title.lower():
        title += " (on digits)"
    return title


def contents(
    runs: Sequence[Run],
    benches: Sequence[Bench],
    images: np.ndarray | None = None,
    samples: Sequence[SampleRow] = (),
) -> dict[str, Any]:
    """Return all that the page shows but its title; arguments as for `page`."""
    bench_views = [bench_view(bench, f"b{i}") for i, bench in enumerate(benches)]
    run_views = [run_view(run, f"r{i}", images) for i, run in enumerate(runs)]
    entries = parity_entries(runs, benches)
    table, rows = training_table(runs) if runs else (None, ())
    alike = all(comparable(run, runs[0]) for run in runs)
    run_verdict = decide(rows) if runs and not benches and alike else None
    return {
        "benches": bench_views,
        "devices": device_table(benches),
        "changes": change_views(benches, runs, images),
        "runs": run_views,
        "run_verdict": run_verdict,
        "run_tiles": tiles(run_verdict) if run_verdict else (),
        "training": table,
        "parity": parity(entries, "Exported files against the Keras model") if entries else None,
        "notices": _notices(runs, benches),
        "datasets": [words.dataset(name) for name in _dataset_names(runs, benches)],
        "side": side_by_side(list(enumerate(runs)), "s") if len(runs) >= _MANY else None,
        "many": len(runs) >= _MANY,
        "samples": samples,
    }


def _dataset_names(runs: Sequence[Run], benches: Sequence[Bench]) -> list[str]:
    named = [run.dataset.get("name") for run in runs] + [b.data.get("name") for b in benches]
    return list(dict.fromkeys(name for name in named if name))


def _notices(runs: Sequence[Run], benches: Sequence[Bench]) -> list[str]:
    """Say what a reader must know before the figures."""
    found = []
    if words.on_digits(*_dataset_names(runs, benches)):
        found.append(digits_notice())
    if len({run.dataset.get("fingerprint") for run in runs}) > 1:
        found.append("These runs saw different data sets, so their accuracies don't compare.")
    if len({bench.data.get("fingerprint") for bench in benches if bench.data}) > 1:
        found.append("These benches read different images, so their accuracies don't compare.")
    early = [run.name for run in runs if run.split != "test"]
    if early:
        found.append(
            f"Without test figures yet: {', '.join(early)}. What is shown is of the validation "
            "images, on which the epoch was chosen; `edgecifar evaluate` reads the test set."
        )
    return found
