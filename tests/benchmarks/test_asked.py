"""Targets on the page of a bench."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.commands import report
from edgecifar.benchmarks.report.asked import asked
from edgecifar.benchmarks.report.build import load, page
from edgecifar.benchmarks.report.load import load_bench
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import seal

ROOT = Path(__file__).parents[2]
TARGETS = """
[[targets]]
file = "mlp32-int8.tflite"
against = "mlp32-float32.tflite"
bytes = 0.3
top1 = 99.9
[[targets]]
file = "mlp32-int8.tflite"
against = "mlp32-float32.tflite"
bytes = 0.3
"""


@pytest.fixture
def targets(bench_file):
    """Targets of the bench, of its name and beside it."""
    path = bench_file.with_suffix(".toml")
    path.write_text(TARGETS)
    return path


def test_targets_beside_a_bench_are_judged(bench_file, targets):
    _, (bench,) = load([], [bench_file])
    found = asked(bench)
    assert found.table.columns == ("File", "Outcome", "Top-1 %", "Bytes")  # what was asked
    missed, met = ([cell.text for cell in row] for row in found.table.rows)
    assert (missed[1], met[1]) == ("missed: top-1", "met")
    assert found.table.rows[0][1].strong
    assert found.table.rows[0][3].detail == "asked 0.30x"
    assert found.outcome == "1 of 2 targets met; missed by mlp32-int8.tflite (top-1)."
    html = page([], [bench])
    assert found.outcome in html
    assert "<b>missed: top-1</b>" in html
    assert 'id="targets"' in html
    targets.unlink()
    assert 'id="targets"' not in page(*load([], [bench_file]))


def test_targets_may_be_chosen(bench_file, targets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = Path("other.toml")
    other.write_text(TARGETS.replace("top1 = 99.9", "top1 = 1.0"))
    options = [str(bench_file), "--targets", str(other), "--markdown", "r.md"]
    assert CliRunner().invoke(report, options).exit_code == 0
    assert "2 of 2 targets met." in Path("report.html").read_text()
    assert "| mlp32-int8.tflite (against mlp32-float32.tflite) | met |" in Path("r.md").read_text()


@pytest.mark.parametrize("text", ['title = "A recipe of this name"', "no TOML at all"])
def test_another_file_of_that_name_is_no_targets(bench_file, text):
    bench_file.with_suffix(".toml").write_text(text)
    _, (bench,) = load([], [bench_file])
    assert bench.targets == ()


def test_what_failed_or_was_not_timed_has_missed(tmp_path, bench_result, targets):
    big, small, other = bench_result["models"]
    path = tmp_path / "bench.json"
    failed = {"name": small["name"], "file": small["file"], "error": "it crashes"}
    path.write_text(json.dumps(seal(bench_result | {"models": [big, failed, other]})))
    _, (bench,) = load([], [path])
    assert [row[1].text for row in asked(bench).table.rows] == [
        "missed: top-1, bytes", "missed: bytes",
    ]  # fmt: skip
    rows = [m | {"latency_us": None, "ratio": None} for m in bench_result["models"]]
    path.write_text(json.dumps(seal(bench_result | {"models": rows})))
    targets.write_text(TARGETS + "faster = 1.0\n")
    _, (bench,) = load([], [path])
    assert asked(bench).table.rows[1][1].text == "missed: speed"


def test_targets_that_fit_nothing_are_refused(bench_file, run_folders, tmp_path, small_study):
    with pytest.raises(EdgecifarError, match=r"gone\.toml is missing"):
        load([], [bench_file], tmp_path / "gone.toml")
    with pytest.raises(EdgecifarError, match="one bench, and 2 are given"):
        load([], [bench_file, bench_file], tmp_path / "gone.toml")
    with pytest.raises(EdgecifarError, match="one bench, and 0 are given"):
        load(run_folders, [], tmp_path / "gone.toml")
    out = ["--targets", "x.toml", "--out", str(tmp_path / "r.html")]
    told = CliRunner().invoke(report, [str(small_study.result), *out])
    assert re.match("a study states itself what was asked: leave out x.toml", str(told.exception))
    bench_file.with_suffix(".toml").write_text(TARGETS.replace("mlp32-int8", "mlp64-int8"))
    _, (bench,) = load([], [bench_file])
    with pytest.raises(EdgecifarError, match=r"no file 'mlp64-int8.tflite'.*mlp32-int8"):
        page([], [bench])


def test_the_published_bench_has_its_targets():
    path = ROOT / "benchmarks" / "results" / "shipped.json"
    _, (bench,) = load([], [path])
    assert {target.file for target in bench.targets} >= {"nano.tflite", "base.tflite"}
    assert load_bench(path).targets == ()
