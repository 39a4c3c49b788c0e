import csv
import dataclasses
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import precision, session
from edgecifar.train.checkpoint import DivergedError, newest_checkpoint
from edgecifar.train.data import Split
from edgecifar.train.evaluate import evaluate, predict
from edgecifar.train.files import alone_in
from edgecifar.train.loop import fit
from edgecifar.train.pipeline import image_feed
from edgecifar.train.run import Run
from edgecifar.train.session import train
from edgecifar.train.settings import Augmentation, Training

# baseline has dropout, whose random state is the hardest thing to take up again.
SHORT = Training(
    epochs=8,
    batch_size=128,
    learning_rate=0.05,
    ema=0.9,
    augment=Augmentation(flip="none", crop=2, mixup=0.2),
)


# A shell's background jobs ignore Ctrl-C, and so would their children.
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgecifar.runtime.commands import main
main(prog_name="edgecifar")
"""


def history(run):
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    return np.array([[float(row[name]) for name in names] for row in rows])


def command(out):
    settings = dataclasses.asdict(SHORT)
    augment = settings.pop("augment")
    pairs = settings | {f"augment.{key}": value for key, value in augment.items()}
    options = [part for pair in pairs.items() for part in ("--set", "{}={}".format(*pair))]
    return [
        sys.executable,
        "-c",
        MAIN,
        "train",
        "baseline",
        "--data",
        "digits",
        "--out",
        str(out),
        *options,
    ]


def interrupt(out, number):
    """Start training and send a signal after the first checkpoint; return status and stderr."""
    process = subprocess.Popen(command(out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "history.csv").exists():  # written after the checkpoint
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate()
    return process.returncode, errors


def unrecorded(dataset, settings, out):
    """Train, and be killed before there is more of the run than checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "record", lambda *_, **__: sys.exit())
        with pytest.raises(SystemExit):
            train("baseline", dataset, settings, out)
    return Run(out)


def test_training_learns(digits_run):
    figures = digits_run.metrics["validation"]
    assert figures["top1"] > 60  # chance is 10
    rows = history(digits_run.path)
    best = max(range(len(rows)), key=lambda epoch: (rows[epoch, 3], -rows[epoch, 2]))
    assert digits_run.info["best_epoch"] == 1 + best


class Ruin(keras.callbacks.Callback):
    """Forgets in the second epoch all that the first has learned."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            for weight in self.model.weights:
                weight.assign(tf.zeros_like(weight))


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_weights_of_the_best_epoch_are_kept(small_digits, tmp_path, ema):
    settings = dataclasses.replace(SHORT, epochs=2, ema=ema, schedule="constant")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    feed = image_feed(small_digits, settings, seed=0)
    found = fit(feed, model, settings, tmp_path, seed=0, callbacks=(Ruin(),))
    assert (found.best_epoch, len(found.history)) == (1, 2)
    figures, _ = evaluate(model, small_digits.validation, small_digits.classes)
    first = found.history[0]
    assert figures["top1"] == pytest.approx(100 * first["val_accuracy"])
    assert figures["loss"] == pytest.approx(first["val_loss"], rel=1e-5)


def test_the_stored_model_is_the_one_that_was_measured(digits, digits_run):
    stored = np.load(digits_run.path / "predictions-validation.npz")["probabilities"]
    np.testing.assert_allclose(
        predict(digits_run.load_model(), digits.validation), stored, atol=1e-5
    )


def test_killed_training_ends_as_if_it_had_not_been(digits, tmp_path):
    whole = train("baseline", digits, SHORT, tmp_path / "whole")
    out = tmp_path / "killed"
    interrupt(out, signal.SIGKILL)
    assert len(history(out)) < SHORT.epochs, "it finished before it could be killed"

    train("baseline", digits, SHORT, out)
    # Equal up to the order in which threads add float32 numbers.
    np.testing.assert_allclose(history(out), history(whole.path), rtol=1e-4, atol=1e-6)
    ours, theirs = (
        np.load(path / "predictions-validation.npz")["probabilities"] for path in (out, whole.path)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_ctrl_c_says_what_is_kept(tmp_path):
    status, errors = interrupt(tmp_path / "run", signal.SIGINT)
    assert status == 130
    assert "epochs are kept: the same command, without --force, goes on" in errors
    assert "Traceback" not in errors


def test_a_diverging_loss_stops_and_keeps_what_was_good(digits, tmp_path):
    hot = dataclasses.replace(SHORT, learning_rate=1e12, schedule="constant", weight_decay=0.0)
    with pytest.raises(DivergedError, match=r"no longer finite in epoch 1.*lower learning_rate"):
        train("baseline", digits, hot, tmp_path / "hot")
    assert newest_checkpoint(tmp_path / "hot") is None


def test_float16_does_not_go_on_in_float32(digits, tmp_path, monkeypatch):
    """Whose optimizer scales no losses: the checkpoint is whole, and says so."""
    half = dataclasses.replace(SHORT, epochs=1, precision="float16")
    few = dataclasses.replace(  # on a CPU it is emulated
        digits, train=Split(digits.train.images[:128], digits.train.labels[:128])
    )
    with monkeypatch.context() as gpu:
        gpu.setattr(precision, "policy_for", lambda asked: "mixed_float16")
        run = unrecorded(few, half, tmp_path / "run")
    run.update(recipe=run.info["recipe"] | {"precision": "float32"})  # as auto is on a CPU
    single = dataclasses.replace(half, precision="float32")
    with pytest.raises(
        EdgecifarError, match=r"begun in float16 and would go on in float32.* a GPU"
    ):
        train("baseline", few, single, run.path)
    assert newest_checkpoint(run.path) is not None


def test_early_stopping_waits_its_patience(digits, tmp_path):
    # A rate too small to change any prediction: no epoch after the first is better.
    still = dataclasses.replace(
        SHORT, epochs=9, learning_rate=1e-12, schedule="constant", early_stopping=2, ema=0.0
    )
    run = train("baseline", digits, still, tmp_path / "still")
    assert run.info["best_epoch"] + 2 == run.info["epochs"] < 9


def test_the_last_checkpoint_replaces_the_others(digits, tmp_path):
    run = unrecorded(digits, dataclasses.replace(SHORT, epochs=2), tmp_path / "run")
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["epoch-00002"]


def test_a_busy_folder_and_a_damaged_checkpoint_are_named(digits, tmp_path):
    run = unrecorded(digits, dataclasses.replace(SHORT, epochs=1), tmp_path / "run").path
    with alone_in(run), pytest.raises(EdgecifarError, match="another process is at work"):
        train("baseline", digits, dataclasses.replace(SHORT, epochs=1), run)
    (state,) = (run / "checkpoints").glob("epoch-*/state.data*")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(EdgecifarError, match=r"checkpoints/epoch-00001 is damaged: delete it"):
        train("baseline", digits, dataclasses.replace(SHORT, epochs=1), run)


def test_a_disk_that_is_full_is_named_and_keeps_what_was_there(digits, tmp_path, monkeypatch):
    short = dataclasses.replace(SHORT, epochs=2)
    write = tf.train.Checkpoint.write

    def fill(self, path):
        if "epoch-00002" in path:
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device\nmore")
        return write(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.Checkpoint, "write", fill)
        told = r"no checkpoint can be written in .*run \(No space left on device\): mend that"
        with pytest.raises(EdgecifarError, match=told):
            train("baseline", digits, short, tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run").name == "epoch-00001"
    assert len(history(train("baseline", digits, short, tmp_path / "run").path)) == 2


def test_too_few_images_for_a_batch(digits, tmp_path):
    with pytest.raises(EdgecifarError, match="don't fill a batch of 100000: set batch_size to"):
        train("baseline", digits, Training(batch_size=100_000), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_low_precision_ends_in_a_float32_model(digits, tmp_path):
    """On a CPU with bfloat16 its layers had another type while they were trained."""
    settings = dataclasses.replace(SHORT, epochs=1, precision="bfloat16")
    model = train("edge-8-s16", digits, settings, tmp_path / "run").load_model()
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
