"""The two scripts measure what they say; whether the limits hold, a quiet machine tells."""

import sys

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.checks import cold_start, harness, overhead
from edgecifar.benchmarks.checks.cold_start import ColdStart
from edgecifar.benchmarks.checks.overhead import Overhead
from edgecifar.runtime import shipped


@pytest.fixture(scope="module")
def model():
    return shipped.locate("nano")


def test_cold_start(model, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # compiling counts for no user of pip
    found = cold_start.measure(model, rounds=1)
    assert min(found.imports_ms, found.command_ms) > 20  # which is longer, one round doesn't tell
    assert found.limit_ms == pytest.approx(1.35 * found.imports_ms + 60)


def test_the_first_round_does_not_count(model, monkeypatch):
    """Of three later ones the medians do, each command's own."""
    taken = iter((900.0, 950.0, 100.0, 130.0, 120.0, 150.0, 500.0, 110.0))
    monkeypatch.setattr(cold_start, "_milliseconds", lambda *_: next(taken))
    assert cold_start.measure(model, rounds=3) == ColdStart(imports_ms=120.0, command_ms=130.0)


def test_bytecode_is_kept(tmp_path, monkeypatch):
    (tmp_path / "ours.py").write_text("")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cache = tmp_path / "bytecode"
    cold_start._milliseconds([sys.executable, "-c", "import ours"], cold_start._compiling(cache))
    assert list(cache.rglob("ours.*.pyc"))


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (overhead.main, ["nowhere.tflite"]),
        (harness.main, ["nowhere.tflite"]),
        (cold_start.main, ["--model", "nowhere.tflite", "--rounds", "1"]),
    ],
)
def test_a_missing_file_is_one_line(program, options):
    done = CliRunner().invoke(program, options)
    assert done.exit_code == 1
    assert "Error: " in done.stderr
    assert "nowhere.tflite" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (overhead.main, ["m.tflite", "--rounds", "1"]),
        (harness.main, ["m.tflite", "--runs", "0"]),
        (cold_start.main, ["--rounds", "0"]),
    ],
)
def test_too_few_rounds_are_refused(program, options):
    done = CliRunner().invoke(program, options)
    assert done.exit_code == 2
    assert f"Invalid value for '{options[-2]}'" in done.stderr


def test_overhead(model):
    found = overhead.measure(model, rounds=2, memory=False)
    assert found.bare_us > 1
    assert abs(found.extra_us) < 10 * found.bare_us + 500
    assert 0.05 < found.speed_up < 4
    assert found.growth_bytes is None


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (Overhead(40.0, 12.5, 1.8, 0), "12.5 us over"),
        (Overhead(240.0, 5.0, 1.5, 0), "1.50 times"),
        (Overhead(40.0, 5.0, 1.8, 3_000_000), "memory grew"),
    ],
)
def test_limits(found, problem):
    assert [problem in text for text in overhead._problems("net", found)] == [True]
    assert overhead._problems("net", Overhead(240.0, 11.9, 1.71, None)) == []
    assert overhead._problems("net", Overhead(40.0, 11.9, 1.5, None)) == []  # stated only
