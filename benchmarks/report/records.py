"""What a report's CSV holds: a record of each measured file or run, with plain numbers."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from edgecifar.benchmarks.report.load import Bench, Run
from edgecifar.benchmarks.report.origins import device_name
from edgecifar.benchmarks.report.verdict import Row, bench_rows, run_rows


def bench_records(bench: Bench) -> list[dict[str, Any]]:
    """Return a record of each file, which says where and how it was measured."""
    where = {
        "device": device_name(bench),
        "bench": bench.source.name,
        "data": bench.data.get("name"),
        "doubts": "; ".join(bench.raw.get("doubts") or ()),
    }
    records = []
    for row in bench_rows(bench):
        model = bench.models[row.index].raw
        how = {"backend": model.get("backend"), "threads": model.get("threads"), "batch": row.batch}
        records.append({**_figures(row), **how, **where})
    return records


def run_records(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a record of each run."""
    data = (run.dataset.get("name") for run in runs)
    return [{**_figures(row), "data": of} for row, of in zip(run_rows(runs), data, strict=True)]


def as_csv(records: Sequence[dict[str, Any]]) -> str:
    """Give records as CSV: percent, points, microseconds and bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _figures(row: Row) -> dict[str, Any]:
    accuracy, latency, speed, paired = row.accuracy, row.latency, row.speedup, row.difference
    return {
        "name": row.name,
        "kind": row.kind,
        "top1": accuracy and accuracy.top1,
        "top1_low": accuracy and accuracy.low,
        "top1_high": accuracy and accuracy.high,
        "n": accuracy and accuracy.n,
        "ece": accuracy and accuracy.ece,
        "against": row.against,
        "difference": row.gap,
        "difference_low": paired and paired.low,
        "difference_high": paired and paired.high,
        "mcnemar_p": paired and paired.test.p,
        "median_us": latency and latency.median,
        "median_us_low": latency and latency.low,
        "median_us_high": latency and latency.high,
        "p90_us": latency and latency.p90,
        "p99_us": latency and latency.p99,
        "speedup": speed and speed.value,
        "speedup_low": speed and speed.low,
        "speedup_high": speed and speed.high,
        "payload_bytes": row.payload_bytes,
        "file_bytes": row.file_bytes,
        "peak_memory_bytes": row.peak_bytes,
        "energy_mj": row.energy,
        "error": row.error,
    }
