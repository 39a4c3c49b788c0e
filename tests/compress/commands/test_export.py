import dataclasses
import json
import shutil

import pytest
from click.testing import CliRunner

from edgecifar.compress.commands.export import export, with_onnx
from edgecifar.compress.formats import FORMATS
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.verification import verify


@pytest.mark.parametrize(
    ("precisions", "formats"),
    [
        ([], ["onnx"]),
        (["int8"], ["int8", "onnx-int8"]),
        (["int8", "float32"], ["int8", "float32", "onnx-int8", "onnx"]),
        (["float16"], ["float16", "onnx"]),
    ],
)
def test_onnx_comes_in_the_precisions_asked_for(precisions, formats):
    assert with_onnx(precisions) == formats


def test_nothing_asked_for_is_wrong_usage(tmp_path):
    result = CliRunner().invoke(export, [str(tmp_path)])
    assert result.exit_code == 2
    assert "--int8 --float32 --float16 --dynamic --int16x8 --onnx" in result.output


@pytest.fixture(scope="module")
def both(digits_qat_run, tmp_path_factory):
    """The folder of both int8 files of a run, and what was printed while they were made."""
    folder = tmp_path_factory.mktemp("both")
    arguments = [str(digits_qat_run.path), "--data", "digits", "--int8", "--onnx"]
    result = CliRunner().invoke(export, [*arguments, "--out", str(folder)], terminal_width=100)
    assert result.exit_code == 0, result.output
    return folder, result.output.replace("\n", "")


def record_of(folder):
    return json.loads((folder / "exports.json").read_text())["files"]


def test_both_int8_files_with_their_verdicts(both):
    folder, printed = both
    record = record_of(folder)
    assert sorted(record) == ["resnet8-qat-int8.onnx", "resnet8-qat-int8.tflite"]
    for name, found in record.items():
        assert f"{folder / name}: {found['verdict']}" in printed
        assert verify(folder / name).agreement.identical
    tflite, onnx = (record[f"resnet8-qat-int8.{kind}"]["verdict"] for kind in ("tflite", "onnx"))
    assert "faster than float32 ONNX on this machine" in onnx
    assert "faster than float32 on this machine" in tflite
    assert "9 QLinearConv" in record["resnet8-qat-int8.onnx"]["verdict"]


def test_what_was_written_before_a_failure_is_told(digits_run, tmp_path, monkeypatch):
    def fail(model, images):
        raise EdgecifarError("no such operation")

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], convert=fail))
    arguments = [str(digits_run.path), "--data", "digits", "--float32", "--onnx"]
    result = CliRunner().invoke(main, ["export", *arguments, "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path / 'resnet8-float32.tflite'}: 100.00 % of" in result.stdout.replace("\n", "")
    assert result.stderr.endswith("Error: no such operation\n")


def test_a_file_says_whether_it_is_faster_than_float32(both):
    found = record_of(both[0])["resnet8-qat-int8.tflite"]
    speed = found["timed"]
    assert speed["latency"]["median"] > 0
    faster = speed["ratio"]["high"] < 1
    assert ("x faster than float32 on this machine" in found["verdict"]) == faster
    assert ("not faster than float32 on this machine" in found["verdict"]) != faster
    assert f"({speed['ratio']['value']:.2f}x the time" in found["verdict"]


def test_a_run_without_its_original_is_exported_without_times(digits_qat_run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(digits_qat_run.path, moved)
    result = CliRunner().invoke(export, [str(moved), "--data", "digits", "--int8"])
    assert result.exit_code == 0, result.output
    assert "no times: resnet8, which" in result.output
    (found,) = record_of(moved).values()
    assert found["timed"] is None
