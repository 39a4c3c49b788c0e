import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import modelfile
from edgecifar.runtime.benchmark import Settings, bench
from edgecifar.runtime.results import parse
from edgecifar.runtime.timing import TimingPlan

CLASSES = ("ant", "bee", "cow", "dog")

QUICK = ("--rounds", 2)


def test_table_and_file(edgecifar, described, labelled_npz, tmp_path):
    files = (described / "float32.tflite", described / "int8.tflite")
    out = tmp_path / "result.json"
    result = edgecifar("bench", *files, "--data", labelled_npz, "--json", out, *QUICK)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["model", "median"]
    assert lines[1].startswith("tiny-float32")
    assert lines[2].startswith("tiny-int8")
    assert "64 images of insects" in result.stdout
    stored = json.loads(out.read_text())
    for row, line in zip(stored["models"], lines[1:3], strict=True):
        assert f"{row['latency_us']['median']:.1f}" in line
        assert f"{row['accuracy']['top1']:.2f} %" in line


def test_existing_output_is_kept(fails, edgecifar, described, tmp_path):
    out = tmp_path / "result.json"
    out.write_text("mine")
    assert "--force" in fails("bench", described / "int8.tflite", "--json", out, *QUICK)
    assert out.read_text() == "mine"
    done = edgecifar("bench", described / "int8.tflite", "--json", out, "--force", *QUICK)
    assert done.exit_code == 0
    assert json.loads(out.read_text())["kind"] == "bench"


@pytest.mark.parametrize("content", [b"", b"<html>", b"\0" * 50])
def test_bad_files_fail_their_row(edgecifar, described, tmp_path, content):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(content)
    result = edgecifar("bench", bad, described / "int8.tflite", *QUICK)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {bad}")
    assert result.stderr.count("\n") == 1
    assert "tiny-int8" in result.stdout
    assert "failed" in result.stdout


def test_the_environment_variable_is_not_taken_silently(
    edgecifar, described, labelled_npz, monkeypatch
):
    monkeypatch.setenv("EDGECIFAR_DATA", str(labelled_npz))
    result = edgecifar("bench", described / "int8.tflite", *QUICK)
    assert result.exit_code == 0
    assert "images of" not in result.stdout


def test_unknown_backend(fails, described):
    assert "take one of" in fails("bench", described / "int8.tflite", "--backend", "gpu", *QUICK)


def test_options_reach_the_bench(edgecifar, described, labelled_npz, tmp_path):
    out = tmp_path / "result.json"
    options = ("--threads", "1,2", "--images", 12, "--precision", "90%", "--profile")
    result = edgecifar("bench", described / "float32.onnx", "--data", labelled_npz, "--json", out,
                       *options, *QUICK)  # fmt: skip
    assert result.exit_code == 0, result.output
    stored = json.loads(out.read_text())
    assert [row["threads"] for row in stored["models"]] == [1, 2]
    assert stored["data"]["n"] == 12
    assert stored["settings"]["precision"] == 0.9
    assert stored["models"][0]["operators"]
    assert "tiny-float32, 2 threads" in result.stdout
    slowest = stored["models"][0]["operators"][0]
    assert "operators of tiny-float32, 1 threads" in result.stdout
    assert re.search(rf"^{re.escape(slowest['name'])} .*{slowest['operator']}", result.stdout, re.M)
    assert not list(tmp_path.glob(".result.json*")), "the journal is left"


def test_files_of_one_name_inside_are_told_apart(edgecifar, described, tmp_path):
    """As two exports of one run are, whatever the files are called."""
    files = [shutil.copy(described / "int8.tflite", tmp_path / name) for name in ("old", "new")]
    told = edgecifar("bench", *files, *QUICK).stdout
    assert all(f"tiny-int8, {path}" in told for path in files)
    kinds = [described / f"float32.{kind}" for kind in ("tflite", "onnx")]
    told = edgecifar("bench", *kinds, *QUICK).stdout
    assert "tiny-float32, litert" in told  # where the interpreter tells them apart, nothing else
    assert not any(str(path) in told for path in kinds)


@pytest.mark.parametrize("option", [("--threads", "1;2"), ("--precision", "two"), ("--batch", "x")])
def test_options_that_cannot_be_read(edgecifar, described, option):
    assert edgecifar("bench", described / "int8.tflite", *option).exit_code == 2


def test_what_cannot_be_profiled_says_so(edgecifar, described):
    result = edgecifar("bench", described / "int8.tflite", "--profile", *QUICK)
    assert "tiny-int8: no operator profile: the Python interface of" in result.stdout


def test_images_of_no_data_are_refused(edgecifar, described):
    result = edgecifar("bench", described / "int8.tflite", "--images", 12)
    assert result.exit_code == 2
    assert "give these by --data" in result.stderr


def test_a_backend_that_reads_no_such_file_is_refused(fails, described, tmp_path):
    """Of several as of one, by what is in the file, whatever it is called."""
    path = tmp_path / "model.lite"
    shutil.copy(described / "int8.tflite", path)
    both = ("--backend", "litert", "--backend", "tensorflow")
    assert "no interpreter 'litert' for .onnx files" in fails(
        "bench", described / "float32.onnx", *both, *QUICK
    )
    assert "no interpreter 'onnxruntime'" in fails(
        "bench", path, "--backend", "onnxruntime", "--backend", "onnxruntime", *QUICK
    )


def test_options_out_of_range(fails, described):
    assert "0 threads" in fails("bench", described / "int8.tflite", "--threads", "0")
    assert "0 images a call" in fails("bench", described / "int8.tflite", "--batch", "0")
    assert "precision" in fails("bench", described / "int8.tflite", "--precision", "0")


def test_other_devices_need_the_workstation(fails, described, monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    assert "install edgecifar there" in fails(
        "bench", described / "int8.tflite", "--device", "ssh://x"
    )


def test_what_an_accuracy_rests_on_is_told(edgecifar, bare, described, labelled_npz, tmp_path):
    files = (bare / "float32.onnx", described / "int8.tflite")
    told = edgecifar("bench", *files, "--data", labelled_npz, *QUICK).stdout
    assert "float32: it names no classes, so they are taken to be in the data's order" in told
    assert told.count("names no classes") == 1
    told_inside = modelfile.read(files[1]).metadata | {"name": "mine", "dataset": {"name": "test"}}
    modelfile.append(files[1], told_inside, CLASSES)
    arrays = dict(np.load(labelled_npz))
    for name, given in (
        ("test", "64 images of test\n"),
        ("set", "12 of the 64 images of set, from"),
    ):
        path = tmp_path / "alone" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **{key: arrays[key] for key in ("images", "labels", "classes")})
        told = edgecifar("bench", files[1], "--data", path, *QUICK).stdout
        assert f"top-1 on {given}" in told
        assert ("mine: it was trained on images called test: if on" in told) == (name == "test")


def test_progress_while_images_are_read(described, images, tmp_path):
    for row, image in enumerate(images[:24]):
        path = tmp_path / "set" / CLASSES[row % 4] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    told = []
    plan = Settings(plan=TimingPlan(rounds=2))
    files = [described / "int8.tflite"]
    bench(files, data=tmp_path / "set", settings=plan, on_progress=told.append)
    assert "reading images: 12 of 24" in told


def test_rows_that_failed_are_named_as_they_were_asked_for(edgecifar, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"<html>")
    backends = ("--backend", "litert", "--backend", "tensorflow")
    result = edgecifar("bench", bad, *backends, *QUICK)
    assert "None" not in result.stdout
    assert "bad, litert " in result.stdout
    assert "bad, tensorflow " in result.stdout


def test_a_result_on_standard_output(edgecifar, described, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = edgecifar("bench", described / "int8.tflite", "--json", "-", *QUICK)
    assert result.exit_code == 0, result.output
    assert parse(result.stdout.encode(), "-")["models"][0]["name"] == "tiny-int8"
    assert "median" in result.stderr
    assert not (tmp_path / "-").exists()
    two = ("--device", "local", "--device", "emulated:pi4")
    assert edgecifar("bench", "nano", "--json", "-", *two).exit_code == 2


def test_what_is_no_file_is_never_replaced(fails, described, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    asked = ("bench", described / "int8.tflite", "--json", tmp_path / "pipe", "--force", *QUICK)
    assert "pipe exists and is no file: give another name" in fails(*asked)
    assert (tmp_path / "pipe").is_fifo()
    assert "is no file" in fails(*asked, "--device", "emulated:pi4")
