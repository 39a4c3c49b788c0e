import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import features, models
from edgecifar.train.checkpoint import newest_checkpoint
from edgecifar.train.commands import train as command
from edgecifar.train.commands import trainer
from edgecifar.train.data import Split
from edgecifar.train.files import alone_in, require_idle
from edgecifar.train.models import efficientnet_lite0
from edgecifar.train.parsing import override
from edgecifar.train.settings import Training
from edgecifar.train.summary import print_run
from edgecifar.train.transfer import FINE_TUNING, HEAD_FROM_RUN, Head, Transfer, freeze, train

NAME = "efficientnet_lite0"
QUICK = override(
    FINE_TUNING, {"epochs": 2, "batch_size": 32, "augment.flip": "none", "learning_rate": 1e-4}
)


# What is tested here needs none of the others; the whole network trains in test_every_architecture.
SHALLOW = efficientnet_lite0.STAGES[:2]
CHILD = f"""
from edgecifar.runtime.commands import main
from edgecifar.train.models import efficientnet_lite0
efficientnet_lite0.STAGES = {SHALLOW}
main(prog_name="edgecifar")
"""


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Leave EfficientNet-Lite0 two of its stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet_lite0, "STAGES", SHALLOW)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights such as are published: of the backbone alone, for its own inputs."""
    import tf_keras as keras

    keras.utils.set_random_seed(5)
    backbone = models.find(NAME).backbone
    model = backbone.build((32, 32), 10)
    path = tmp_path_factory.mktemp("weights") / "lite0_notop.h5"
    keras.Model(model.input, backbone.layers(model)[-1].output).save_weights(path)
    return path


@pytest.fixture(scope="module")
def few(digits):
    """Images for a few steps."""
    return dataclasses.replace(
        digits,
        train=Split(digits.train.images[:128], digits.train.labels[:128]),
        validation=Split(digits.validation.images[:40], digits.validation.labels[:40]),
        fingerprint="1" * 64,
    )


def history(folder):
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[key]) for key in ("loss", "val_loss")] for row in rows])


def test_only_the_last_layers_change(few, weights, tmp_path):
    transfer = Transfer(str(weights), backbone_size=32, unfreeze=10, head=Head(epochs=2))
    run = train(NAME, few, QUICK, transfer, tmp_path / "run")
    assert len(history(run.path / "head")) == 2
    assert len(history(run.path)) == 2
    assert run.info["transfer"]["weights"]["file"] == weights.name
    assert not list((run.path / "head").glob("features-*"))

    model, backbone = run.load_model(), models.find(NAME).backbone
    untrained = backbone.build((32, 32), 10)
    from edgecifar.train.transfer import load_weights

    load_weights(backbone, untrained, str(weights))
    pairs = list(zip(backbone.layers(model), backbone.layers(untrained), strict=True))

    def changed(layer, before):
        both = zip(layer.get_weights(), before.get_weights(), strict=True)
        return any((new != old).any() for new, old in both)

    assert not any(changed(*pair) for pair in pairs[:-10])
    tuned = {layer.name for layer, before in pairs[-10:] if changed(layer, before)}
    assert "top_conv" in tuned
    assert "top_bn" not in tuned  # frozen batch normalisation
    assert all(layer.trainable for layer in model.layers)  # later stages train everything


def test_a_second_phase_that_harms_is_dropped(few, tmp_path, capsys):
    """A rate that ruins the network leaves the head alone, as its features were."""
    ruinous = dataclasses.replace(QUICK, learning_rate=0.05)
    run = train("resnet8", few, ruinous, Transfer("resnet8", head=HEAD_FROM_RUN), tmp_path / "run")
    told, head = run.info["dropped"], run.info["head"]
    assert told["epochs"] == 2
    assert told["top1"] < head["top1"]
    assert head["top1"] == pytest.approx(run.metrics["validation"]["top1"], abs=0.01)
    assert run.info["epochs"] == head["epochs"]
    np.testing.assert_array_equal(history(run.path), history(run.path / "head"))
    assert all(layer.trainable for layer in run.load_model().layers)
    print_run(run)
    assert f"its last layers too │ {told['top1']:.2f} %, which is less: dropped" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_frozen_backbone_ends_after_the_head(few, weights, tmp_path):
    transfer = Transfer(str(weights), backbone_size=32, unfreeze=0, head=Head(epochs=3))
    # Of a second phase, if there were one: more images a batch than there are.
    other = dataclasses.replace(QUICK, precision="float16", batch_size=10_000)
    run = train(NAME, few, other, transfer, tmp_path / "run")
    assert run.complete
    assert run.info["computed_in"] == "float32"
    assert not (run.path / "checkpoints").exists()
    np.testing.assert_array_equal(history(run.path), history(run.path / "head"))
    told = run.info["head"]
    assert told["epochs"] == 3
    assert told["feature_seconds"] > 0
    assert told["top1"] == pytest.approx(run.metrics["validation"]["top1"], abs=0.01)

    again = Transfer(str(run.path), backbone_size=32, unfreeze=0, head=Head(epochs=1))
    second = train(NAME, few, QUICK, again, tmp_path / "second")
    backbone = models.find(NAME).backbone
    for ours, theirs in zip(
        backbone.layers(second.load_model()), backbone.layers(run.load_model()), strict=True
    ):
        for new, old in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(("factor", "batches"), [(1, [64] * 2), (16, [9, *[17] * 7])])
def test_features_are_computed_once(few, tmp_path, monkeypatch, factor, batches):
    """Of as many images at once as fit into memory where a network enlarges them."""
    import tf_keras as keras

    inputs = keras.Input((32, 32, 3))
    larger = keras.layers.UpSampling2D(factor)(inputs)
    extractor = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(larger))
    predict, seen = extractor.predict_on_batch, []

    def noting(images):
        seen.append(len(images))
        return predict(images)

    monkeypatch.setattr(extractor, "predict_on_batch", noting)
    path = tmp_path / "features.npy"
    first = features.cached_features(extractor, few.train, path, name="train")
    second = features.cached_features(extractor, few.train, path, name="train")
    assert sorted(seen) == batches
    expected = (few.train.images.astype(np.float32).mean(axis=(1, 2)) - 120) / 64
    np.testing.assert_allclose(first, expected, atol=1e-5)
    np.testing.assert_array_equal(first, second)


def test_a_second_start_leaves_the_files_of_the_first_alone(few, tmp_path):
    table, told = tmp_path / "head" / ".partial-1-features-train.npy", tmp_path / "history.csv"
    with alone_in(tmp_path):
        for path in (table, told):
            path.parent.mkdir(exist_ok=True)
            path.write_text("of the first")
        with pytest.raises(EdgecifarError, match="another process is at work"):
            features.fit_head(None, None, few, QUICK, tmp_path, seed=0)
    assert table.read_text() == told.read_text() == "of the first"


def test_a_run_is_at_work_while_it_computes_features(few, tmp_path, monkeypatch):
    import tf_keras as keras

    def compute(*_, **__):
        with pytest.raises(EdgecifarError, match="another process is at work"):
            require_idle(tmp_path)
        raise KeyboardInterrupt

    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pooled")(inputs))
    monkeypatch.setattr(features, "cached_features", compute)
    with pytest.raises(KeyboardInterrupt):
        features.fit_head(SimpleNamespace(pooled="pooled"), model, few, QUICK, tmp_path, seed=0)
    require_idle(tmp_path)


@pytest.mark.slow
def test_a_run_killed_in_either_phase_goes_on(digits, weights, tmp_path):
    data = tmp_path / "few.npz"
    np.savez(data, images=digits.train.images[:300], labels=digits.train.labels[:300])
    options = [
        *("--data", str(data), "--weights", str(weights), "--backbone-size", "32"),
        *("--unfreeze", "9", "--epochs", "12", "--batch-size", "32", "--set", "augment.flip=none"),
        *("--set", "transfer.head.epochs=40", "--set", "transfer.head.early_stopping=0"),
    ]

    def start(out):
        script = [sys.executable, "-c", CHILD, "train", NAME]
        return subprocess.Popen([*script, *options, "--out", str(out)], stderr=subprocess.PIPE)

    def kill_within(process, folder, epochs):
        deadline = time.monotonic() + 300
        while newest_checkpoint(folder) is None:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        last = newest_checkpoint(folder).name
        assert last < f"epoch-{epochs:05d}", "the phase ended before it could be killed"

    out = tmp_path / "killed"
    kill_within(start(out), out / "head", epochs=40)
    kill_within(start(out), out, epochs=12)
    for folder in (out, tmp_path / "whole"):
        done = CliRunner().invoke(command, [NAME, *options, "--out", str(folder)])
        assert done.exit_code == 0, done.output
    for phase in ("", "head"):
        np.testing.assert_allclose(
            history(out / phase), history(tmp_path / "whole" / phase), rtol=1e-3
        )


def test_without_weights_everything_learns():
    backbone = models.find(NAME).backbone
    model = backbone.build((32, 32), 10)
    freeze(backbone, model, Transfer("none", unfreeze=1))
    assert all(layer.trainable for layer in model.layers)
    freeze(backbone, model, Transfer("imagenet", unfreeze=10_000, batch_norm="trained"))
    assert all(layer.trainable for layer in model.layers)


def test_what_can_not_be_transferred_leaves_no_folder(few, weights, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(EdgecifarError, match="no pretrained weights for baseline: choose from"):
        train("baseline", few, QUICK, Transfer(), out)
    with pytest.raises(EdgecifarError, match=r"missing\.h5 is missing"):
        train(NAME, few, QUICK, Transfer(str(tmp_path / "missing.h5")), out)
    with pytest.raises(EdgecifarError, match="--backbone-size 50 is no whole multiple"):
        train(NAME, few, QUICK, Transfer(str(weights), backbone_size=50), out)
    assert not out.exists()


@pytest.mark.parametrize("values", [{"unfreeze": -1}, {"backbone_size": -1}])
def test_impossible_settings_are_named(values):
    with pytest.raises(EdgecifarError, match=f"{next(iter(values))} is -1"):
        Transfer(**values)


def test_options_of_transfer_need_weights():
    result = CliRunner().invoke(command, [NAME, "--unfreeze", "3"])
    assert result.exit_code == 2
    assert "to set unfreeze give --weights too" in result.output


@pytest.mark.parametrize(
    ("changes", "asked", "idle"),
    [
        (
            {"transfer.head.epochs": 7},
            {"weights": "none", "unfreeze": 3},
            "transfer.unfreeze and transfer.head.epochs",
        ),
        ({"transfer.batch_norm": "trained"}, {"weights": "none"}, "transfer.batch_norm"),
        (
            {"epochs": 3, "transfer.batch_norm": "trained"},
            {"weights": "imagenet", "unfreeze": 0},
            "epochs and transfer.batch_norm",
        ),
    ],
)
def test_settings_of_a_phase_that_there_is_not_are_refused(changes, asked, idle):
    with pytest.raises(EdgecifarError, match=f": leave out {idle}$"):
        trainer(NAME, changes, asked)


def test_random_weights_are_trained_as_without_transfer():
    """The second phase's 1e-5 would leave them as they are."""
    _, settings = trainer(NAME, {"epochs": 3}, {"weights": "none"})
    assert settings == override(Training(), {"epochs": 3})
    _, pretrained = trainer(NAME, {}, {"weights": "imagenet"})
    assert pretrained == FINE_TUNING


def test_settings_of_transfer_are_told_from_those_of_training():
    changes, asked = {"transfer.head.epochs": 7, "epochs": 3}, {"weights": "imagenet"}
    how, settings = trainer(NAME, changes, asked)
    assert settings.epochs == 3
    assert how.keywords["transfer"] == Transfer(head=Head(epochs=7))
    assert (changes, asked) == ({"transfer.head.epochs": 7, "epochs": 3}, {"weights": "imagenet"})
