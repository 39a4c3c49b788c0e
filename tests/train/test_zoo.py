import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecifar.runtime import modelfile, shipped
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models, zoo
from edgecifar.train.evaluate import evaluate_run
from edgecifar.train.run import open_run
from edgecifar.train.zoo.listing import print_architectures


@pytest.fixture
def copied(tmp_path):
    """The shipped models in a folder where they can be damaged."""
    folder = tmp_path / "zoo"
    shutil.copytree(zoo.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return folder


@pytest.fixture
def digits_zoo(monkeypatch, tmp_path, digits_run):
    """A zoo whose one model, `tiny`, knows the digits; the working folder is empty."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    shutil.copy(digits_run.path / "model.h5", folder / "tiny.h5")
    metrics = digits_run.metrics | {"test": digits_run.metrics["validation"]}
    entry = {
        "schema": zoo.SCHEMA,
        "name": "tiny",
        "recipe": None,
        "float": {
            "file": "tiny.h5",
            "sha256": hashlib.sha256((folder / "tiny.h5").read_bytes()).hexdigest(),
            "run": digits_run.info | {"name": "tiny"},
            "metrics": metrics,
        },
        "int8": {"payload_bytes": 90_000, "metrics": metrics},
    }
    (folder / "tiny.json").write_text(json.dumps(entry))
    monkeypatch.setattr(zoo, "FOLDER", folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_what_was_measured_of_a_model_that_ships_stays(digits_zoo, digits):
    original = zoo.find("tiny").open_run()
    evaluate_run(original, digits, "test")
    again = zoo.find("tiny").open_run()
    assert again.predictions("test") is not None
    assert again.metrics == original.metrics


def test_a_corrected_entry_reaches_the_cache(digits_zoo):
    entry = json.loads((digits_zoo / "tiny.json").read_text())
    assert zoo.find("tiny").open_run().info["seed"] == 0
    entry["float"]["run"]["seed"] = 7
    (digits_zoo / "tiny.json").write_text(json.dumps(entry))
    assert zoo.find("tiny").open_run().info["seed"] == 7


def test_every_model_has_its_files():
    assert set(zoo.names()) == set(shipped.names())
    for model in zoo.entries():
        original = model.folder / model.info["float"]["file"]
        assert hashlib.sha256(original.read_bytes()).hexdigest() == model.info["float"]["sha256"]
        file = modelfile.read(shipped.MODELS / model.info["int8"]["file"])
        assert (file.sha256, len(file.payload)) == (
            model.info["int8"]["sha256"],
            model.info["int8"]["payload_bytes"],
        )
        assert (model.folder / f"{model.name}.md").exists()
        assert {model.test(which)["n"] for which in ("float", "int8")} == {10_000}


def test_a_model_becomes_a_finished_run():
    model = zoo.find("resnet8")
    run = model.open_run()
    assert (run.name, run.complete, run.info["stage"]) == ("resnet8", True, "train")
    assert run.metrics["test"] == model.test("float")
    (run.path / "model.h5").write_bytes(b"damaged")
    assert model.open_run().digest == model.info["float"]["sha256"]


def test_what_is_made_of_it_stays_out_of_the_cache():
    run = zoo.find("resnet8").open_run()
    assert run.exports == Path()
    assert run.beside("resnet8-qat") == Path("runs/resnet8-qat")


def test_a_changed_file_is_refused(copied):
    (model,) = (m for m in zoo.entries(copied) if m.name == "resnet8")
    path = copied / "resnet8.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(EdgecifarError, match=r"resnet8\.h5 is not the file that shipped"):
        model.open_run()
    path.unlink()
    with pytest.raises(EdgecifarError, match=r"resnet8\.h5 is not the file that shipped"):
        model.open_run()


def test_an_entry_of_another_schema_is_refused(copied):
    path = copied / "resnet8.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(EdgecifarError, match="schema 99 and this edgecifar reads 1"):
        zoo.read(path)


def test_a_run_of_that_name_wins(digits_zoo, digits_run):
    assert open_run(Path("tiny")).path.parent.parent.name == "zoo"
    shutil.copytree(digits_run.path, "tiny")
    assert open_run(Path("tiny")).path == Path("tiny")
    with pytest.raises(EdgecifarError, match="is not a run"):
        open_run(Path("nothing"))


def test_commands_take_a_name_and_leave_files_in_the_working_folder(digits_zoo):
    shutil.copytree(zoo.find("tiny").open_run().path, "runs/tiny")
    result = run("export", "tiny", "--onnx", "--data", "digits")
    assert result.exit_code == 0, result.output
    assert "tiny: the float model that ships" in result.stderr
    assert f"your own is {Path('runs/tiny')}" in result.stderr
    assert {path.name for path in Path().iterdir()} == {"tiny-float32.onnx", "runs"}
    assert modelfile.read("tiny-float32.onnx").has_checksum


def test_a_name_comes_without_predictions_and_is_judged(digits_zoo, digits):
    from edgecifar.compress.judge import _answers

    answers = _answers([zoo.find("tiny").open_run()], digits)
    top1 = 100 * (answers == digits.validation.labels).mean()
    assert top1 == pytest.approx(zoo.find("tiny").test("float")["top1"])


def test_weights_of_a_name_bring_architecture_and_image_size(digits_zoo):
    quick = ("--unfreeze", 0, "--set", "transfer.head.epochs=1")
    result = run("train", "--weights", "tiny", "--data", "digits", *quick)
    assert result.exit_code == 0, result.output
    info = open_run(Path("runs/resnet8")).info
    assert info["transfer"]["weights"]["file"] == "tiny"
    assert info["image_size"] == [32, 32]


def test_weights_that_are_neither_run_nor_name_bring_no_architecture(digits_zoo):
    result = run("train", "--weights", "imagenet", "--data", "digits")
    assert result.exit_code == 2
    assert "give ARCHITECTURE, or the --weights of a run or of tiny" in result.output
    result = run("train", "--weights", "small.h5", "--data", "digits")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "small.h5 is missing" in result.output


def test_models_lists_what_ships():
    listed = json.loads(run("models", "resnet8", "--json").stdout)
    (row,) = listed["shipped"]
    info = zoo.find("resnet8").info
    assert row["int8"]["bytes"] == info["int8"]["payload_bytes"]
    assert row["float"]["top1"] == info["float"]["metrics"]["test"]["top1"]
    (architecture,) = listed["architectures"]
    assert architecture["measured"]["top1"] >= row["float"]["top1"]
    table = run("models", "resnet8").stdout
    assert f"{row['int8']['top1']:.2f} (" in table
    assert f"{architecture['measured']['top1']:.2f}" in table
    assert "at 125 M" not in table


def test_models_marks_the_one_that_classify_takes(monkeypatch):
    monkeypatch.setattr(models, "_MODULES", ("resnet8",))  # the others take long to build
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)["shipped"]}
    assert [n for n, row in rows.items() if row["default"]] == [shipped.default_model().stem]
    told = run("models").stdout
    (line,) = (line for line in told.splitlines() if " * " in line and "cifar10" in line)
    assert line.split()[:2] == [shipped.default_model().stem, "*"]
    assert "* is the model that classify uses" in told
    assert "edge-SHAPE is any other shape" in told
    alone = run("models", "resnet8").stdout
    assert "classify uses" not in alone
    assert "edge-SHAPE" not in alone


def test_the_best_of_an_architecture_names_its_size_where_that_is_another(capsys):
    row = {
        "name": "net", "summary": "A net", "input": [32, 32, 3], "backbone_size": 96,
        "parameters": 10, "macs": 70_000_000, "measured": {"top1": 95.37, "macs": 125_370_368},
    }  # fmt: skip
    print_architectures([row])
    assert "at 125 M" in capsys.readouterr().out
    print_architectures([row | {"macs": 125_370_368}])
    assert "at 125 M" not in capsys.readouterr().out
