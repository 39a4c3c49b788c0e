"""The commands as a user meets them: what they print, and their one line on bad input."""

import json
import re
import subprocess
import sys
from dataclasses import asdict

import pytest
from click.testing import CliRunner

from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models, session
from edgecifar.train.parsing import flat
from edgecifar.train.settings import Training
from edgecifar.train.transfer import Transfer


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def failed(result):
    """Return the one line that an error is."""
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def test_train_then_evaluate(tmp_path):
    out = tmp_path / "tiny"
    quick = ["--epochs", 1, "--batch-size", 64, "--set", "augment.flip=none"]
    result = run("train", "baseline", "--data", "digits", "--out", out, *quick)
    assert result.exit_code == 0, result.output
    assert "356,810" in result.stdout
    result = run("evaluate", out, "--data", "digits")
    assert result.stdout.startswith("test: ")
    metrics = json.loads((out / "metrics.json").read_text())
    assert f"{metrics['test']['top1']:.2f} %" in result.stdout


@pytest.fixture
def asked(monkeypatch):
    """The settings of trainings that are asked for, of which none begins."""
    found = []

    def train(architecture, dataset, settings, **how):
        found.append(settings)
        raise EdgecifarError("far enough")

    monkeypatch.setattr(session, "train", train)
    return found


def test_an_architecture_brings_the_training_that_suits_it(asked):
    quick = ["--epochs", 1, "--data", "digits", "--batch-size", 64]
    assert "far enough" in failed(run("train", "baseline", *quick, "--learning-rate", 0.01))
    assert [(each.optimizer, each.learning_rate) for each in asked] == [("adam", 0.01)]


def test_the_help_of_train_suffices_to_use_it():
    """Names, settings and defaults are in it, though TensorFlow isn't loaded for it."""
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from edgecifar.runtime.commands import main\n"
        "print(CliRunner().invoke(main, ['train', '--help']).output)\n"
        "assert 'tensorflow' not in sys.modules and 'tf_keras' not in sys.modules\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text = " ".join(told.stdout.split())
    assert "edge-SHAPE" in text
    assert "`edgecifar models`" in text
    for name in models.names():
        assert re.search(rf"\b{name}\b", text), name
    for key, value in flat({**asdict(Training()), "transfer": asdict(Transfer())}):
        assert key in ("transfer.weights", "transfer.backbone_size") or f"{key}={value}" in text
    for option, usual in {"epochs": 80, "ema": "0.0", "unfreeze": Transfer().unfreeze}.items():
        assert re.search(rf"--{option} [^\[]*\[default: {usual}\]", text), option


def test_few_images_get_small_batches_and_the_user_is_told(asked):
    told = run("train", "edge-8-s16", "--data", "digits").stderr
    batch, rate = asked[0].batch_size, asked[0].learning_rate
    assert batch < 256
    assert f"training images: batches of {batch} at a rate of up to {rate:g}" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["resnet9"], "unknown architecture 'resnet9': did you mean resnet8?"),
        (["resnet8", "--epochs", 0], "epochs is 0: it must be 1 or more"),
        (["resnet8", "--precision", "int4"], "precision is 'int4': it must be one of auto"),
        (["resnet8", "--set", "augment.flop=none"], "did you mean flip?"),
        (["resnet8", "--set", "epochs"], "'epochs' is not of the form key=value"),
        (
            ["resnet8", "--batch-size", 64, "--set", "augment.crop=40"],
            "augment.crop is 40: images of 32 pixels can be",
        ),
        (["resnet8", "--set", "optimizer=adam"], "which suits SGD: with adam give 0.05 or less"),
        (["resnet8", "--batch-size", 9999], "don't fill a batch of 9999: set batch_size to"),
        (["resnet8", "--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_to_train_is_one_line_and_leaves_nothing(tmp_path, options, message):
    data = [] if "--data" in options else ["--data", "digits"]
    result = run("train", *options, *data, "--out", tmp_path / "run")
    assert message in failed(result)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run(tmp_path):
    assert "is not a run" in failed(run("evaluate", tmp_path, "--data", "digits"))
    assert "is not a run" in failed(run("export", tmp_path, "--int8", "--data", "digits"))
    assert "is not a run" in failed(run("quantize", tmp_path, "--data", "digits"))


def test_tensorflow_missing_names_the_pip_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    result = run("train", "resnet8", "--data", "digits", "--out", tmp_path / "run")
    assert "install edgecifar again" in failed(result)


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
    """Everything a run writes goes through one function; let the disk be full there."""
    import errno

    from edgecifar.train import run as run_module

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(run_module, "write_json", full)
    result = run(
        "train", "baseline", "--batch-size", 64, "--data", "digits", "--out", tmp_path / "run"
    )
    assert "no space left on the disk" in failed(result)


def test_tensorboard_that_is_not_there_is_told_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr("edgecifar.train.commands.find_spec", lambda name: None)
    out = tmp_path / "run"
    line = failed(run("train", "resnet8", "--data", "digits", "--tensorboard", "--out", out))
    assert "`pip install tensorboard`" in line
    assert not out.exists()


def test_images_too_small_for_the_network_leave_no_folder(tmp_path):
    out, digits = tmp_path / "run", ("--data", "digits", "--image-size", 16, "--batch-size", 64)
    line = failed(run("train", "baseline", *digits, "--epochs", 1, "--out", out))
    assert "baseline can't take images of 16x16 pixels" in line
    assert not out.exists()


def test_a_setting_of_the_head_is_named_as_one(tmp_path):
    how = ("--weights", "nano", "--set", "transfer.head.learning_rate=0.5")
    assert "of the head learning_rate is 0.5" in failed(run("train", "nano", *how))


def test_chance_is_called_chance(tmp_path):
    script = ("train", "edge-8-s16", "--data", "digits", "--image-size", 8, "--epochs", 1)
    slow = run(*script, "--set", "learning_rate=1e-9", "--out", tmp_path / "run")
    assert slow.exit_code == 0, slow.output
    assert "surely better than naming the commonest class" in slow.output
