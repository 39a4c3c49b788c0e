import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecifar.compress import judge as judge_module
from edgecifar.compress import latency
from edgecifar.compress import quantize as quantize_module
from edgecifar.compress.commands.summary import print_verdict
from edgecifar.compress.formats import FORMATS
from edgecifar.compress.judge import judge, verdict_of
from edgecifar.compress.verdict import Side, Verdict
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import Estimate
from edgecifar.runtime.timing import TimingPlan
from edgecifar.train.run import Run


def _verdict(step="prune", ratio=(0.6, 0.55, 0.65), change=(-0.2, -0.6, 0.2)):
    before = Side("net-int8", 100, 50, 90.0, 1000, 900, 0.01, 80.0)
    after = Side("net-p50-int8", 50, 20, 89.8, 500, 430, 0.01, 48.0)
    return Verdict(step, before, after, Estimate(*ratio), Estimate(*change), 5000)


def _int8_verdict(beside_change):
    before = Side("net-float32", 100, 50, 90.0, 4000, 3600, 0.0, 240.0)
    beside = Side("net-int8", 100, 50, 89.0, 1000, 900, 0.01, 80.0, agreement=97.0)
    after = Side("net-qat-int8", 100, 50, 89.9, 1020, 910, 0.01, 80.0, agreement=98.76)
    ratio, change = Estimate(0.33, 0.32, 0.34), Estimate(-0.1, -0.3, 0.1)
    more = (beside, Estimate(*beside_change))
    return Verdict("quantize", before, after, ratio, change, 5000, *more)


def test_verdict_says_what_was_won_and_lost():
    text = _verdict().text
    assert text.startswith("int8 is 1.67x faster on this machine (0.60x the time, 0.55 to 0.65)")
    assert "file 0.50x, zipped 0.48x" in text
    assert ", float accuracy unchanged within chance (-0.20 points, -0.60 to +0.20, 5,000" in text
    assert "1.00 points lost" in _verdict(change=(-1.0, -1.4, -0.6)).text
    few = _verdict(change=(-5.6, -12.8, 1.6)).text
    assert "float accuracy -5.60 points, which may be chance (-12.80 to +1.60, 5,000" in few


def test_verdict_admits_what_is_not_faster():
    assert _verdict(ratio=(0.99, 0.97, 1.01)).text.startswith("int8 is not faster")


def test_sparsity_never_promises_speed():
    assert "no speed-up is to be expected" in _verdict("sparsify", (0.9, 0.88, 0.92)).text


def test_int8_is_judged_against_float_and_against_int8_without_fine_tuning():
    text = _int8_verdict((0.9, 0.5, 1.3)).text
    assert text.startswith("int8 is 3.03x faster than float32 on this machine (0.33x the time")
    assert "file 0.26x" in text
    assert "5,000 validation images), 98.76 % of answers the same; 0.90 points won" in text
    assert text.endswith("(+0.50 to +1.30) by fine-tuning: int8 without it has 89.00 %")


def test_fine_tuning_that_won_nothing_is_told():
    text = _int8_verdict((0.1, -0.2, 0.4)).text
    assert "fine-tuning won nothing beyond chance (+0.10 points, -0.20 to +0.40)" in text


@pytest.fixture
def chain(digits_run, tmp_path):
    """Return three runs with the same network, each made of the one before."""
    runs = []
    for name in ("whole", "smaller", "smallest"):
        run = Run(shutil.copytree(digits_run.path, tmp_path / name))
        parent = runs[-1].as_parent() if runs else {}
        run.update(name=name, **({"stage": "prune"} | parent if runs else {}))
        runs.append(run)
    return runs


@pytest.fixture
def converted(monkeypatch, payloads):
    """Have the files of the network that all of a chain are."""
    monkeypatch.setattr(judge_module, "_converted", lambda form, *_: payloads[form.name])


def test_steps_are_judged_together_too(digits, chain, converted):
    """Each may have lost so little that it passes for chance."""
    whole, smaller, smallest = chain
    second = judge((smaller,), smallest, digits)
    assert second.original == "whole"
    assert second.original_change.value == 0
    assert "since whole in all float accuracy unchanged within chance (+0.00" in second.text
    assert judge((whole,), smaller, digits).original is None


def test_a_first_step_has_no_original_however_its_path_is_put(
    digits, chain, converted, monkeypatch
):
    whole, smaller, _ = chain
    monkeypatch.chdir(whole.path.parent)
    assert judge((Run(Path("whole")),), smaller, digits).original is None


def test_a_chain_with_a_gap_has_no_original(digits, chain, converted):
    whole, smaller, smallest = chain
    assert smallest.original().path == whole.path
    assert whole.original() is whole
    assert smallest.original("quantize") is smallest
    smaller.update(parent_model="that of another network")
    assert smallest.original() is None
    assert judge((smaller,), smallest, digits).original is None


def test_what_cannot_be_int8_throughout_is_judged_by_its_float_files(digits, chain, monkeypatch):
    whole, smaller, _ = chain
    inspect = FORMATS["int8"].inspect

    def refuse(*how):
        inspect(*how)
        raise EdgecifarError("not int8 throughout: CAST")

    monkeypatch.setitem(FORMATS, "int8", replace(FORMATS["int8"], inspect=refuse))
    verdict = judge((whole,), smaller, digits)
    assert verdict.precision == "float32"
    assert verdict.text.startswith("float32 is ")
    assert "no int8 file can be made of it (not int8 throughout: CAST)" in verdict.text
    assert verdict.before.name.endswith("-float32")
    assert verdict.before.file_bytes > 3 * whole.info["parameters"]


def test_a_teacher_with_layers_in_float_has_an_int8_file_all_the_same(
    digits, partly_float_run, chain
):
    verdict = judge((partly_float_run,), chain[1], digits)
    assert (verdict.precision, verdict.why_float) == ("int8", None)
    assert verdict.before.file_bytes < partly_float_run.info["parameters"] * 2


def test_int8_on_a_busy_machine_is_called_doubtful(
    digits, digits_run, digits_qat_run, converted, tmp_path, monkeypatch
):
    run = Run(shutil.copytree(digits_qat_run.path, tmp_path / "resnet8-qat"))
    monkeypatch.setattr(latency.environment.Usage, "others", lambda *_: 0.51)
    assert judge((digits_run,), run, digits).doubts == (
        "other programs kept the processor 51 % busy",
    )


def test_the_table_has_all_sides():
    rows = {row[0]: row[1:] for row in _verdict().rows()}
    assert rows["MACs"] == ("100", "50")
    assert rows["bytes"] == ("1,000", "500")
    assert rows["validation top-1 %, float"] == ("90.00", "89.80")  # not of these files
    assert "same answers as float32 %" not in rows
    rows = {row[0]: row[1:] for row in _int8_verdict((0.9, 0.5, 1.3)).rows()}
    assert rows["bytes"] == ("4,000", "1,000", "1,020")
    assert rows["validation top-1 %"] == ("90.00", "89.00", "89.90")
    assert rows["same answers as float32 %"] == ("", "97.00", "98.76")


def test_the_table_is_printed_with_the_verdict(capsys):
    print_verdict(_int8_verdict((0.9, 0.5, 1.3)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "net-float32" in shown
    assert "int8 without it has 89.00 %" in shown


def test_quantize_ends_in_the_table(digits_run, digits_qat_run, tmp_path, monkeypatch):
    """A run that was finished but not judged, as a kill leaves it, is judged and not repeated."""
    monkeypatch.setattr(quantize_module, "prepare", lambda model, *_, **__: model)  # it's refused
    run = Run(shutil.copytree(digits_qat_run.path, tmp_path / "resnet8-qat"))
    (run.path / "verdict.json").unlink(missing_ok=True)
    line = ["quantize", str(digits_run.path), "--data", "digits", "--epochs", "1"]
    result = CliRunner().invoke(main, [*line, "--out", str(run.path)])
    assert result.exit_code == 0, result.output
    assert "before and after" in result.output
    stored = json.loads((run.path / "verdict.json").read_text())
    assert stored["verdict"] == verdict_of(run)
    before, beside, after = (stored[key] for key in ("before", "beside", "after"))
    names = [side["name"] for side in (before, beside, after)]
    assert names == ["resnet8-float32", "resnet8-int8", "resnet8-qat-int8"]
    assert before["top1"] == pytest.approx(digits_run.metrics["validation"]["top1"])
    assert stored["accuracy_change"]["value"] == pytest.approx(after["top1"] - before["top1"])
    assert stored["beside_change"]["value"] == pytest.approx(after["top1"] - beside["top1"])
    assert before["agreement"] is None
    assert after["agreement"] > 90
    assert 3 < before["file_bytes"] / after["file_bytes"] < 4.5
    assert after["us"] > 0
    again = CliRunner().invoke(main, [*line, "--out", str(run.path)])
    assert again.exit_code == 1
    assert "is finished" in again.stderr


def test_times_beside_other_work_are_called_doubtful(monkeypatch):
    doubts = ("other programs kept the processor 51 % busy",)
    for verdict in (_verdict(), _verdict("sparsify"), _int8_verdict((0.9, 0.5, 1.3))):
        text = replace(verdict, doubts=doubts).text
        assert text == f"{verdict.text}; these times are doubtful: {doubts[0]}"
    monkeypatch.setattr(latency.environment.Usage, "others", lambda *_: 0.51)
    assert [each.doubts for each in latency.race([int, int], TimingPlan(rounds=2))] == [doubts] * 2
