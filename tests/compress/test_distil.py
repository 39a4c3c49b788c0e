import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from edgecifar.compress.distil import (
    Distillation,
    Teacher,
    distil,
    distillation_goals,
    taught_feed,
)
from edgecifar.compress.judge import judge, verdict_of
from edgecifar.compress.latency import race
from edgecifar.compress.quantize import Quantization, quantize
from edgecifar.compress.steps import distil_and_judge
from edgecifar.compress.teacher import answer_views
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.pipeline import training_batches

STUDENT = "edge-16-s32r-s32"
TWO_VIEWS = Distillation(views=2)


@pytest.fixture(scope="module")
def settings(quick_training):
    augment = dataclasses.replace(quick_training.augment, mixup=0.2, cutmix=0.5)
    # Half the images a step, for batch-norm statistics; the loss is larger by the temperature.
    return dataclasses.replace(
        quick_training, epochs=6, batch_size=16, learning_rate=0.05, augment=augment
    )


@pytest.fixture(scope="module")
def teacher(digits_run):
    return Teacher((digits_run,), TWO_VIEWS)


@pytest.fixture(scope="module")
def student(digits, settings, teacher, tmp_path_factory):
    return distil(teacher, STUDENT, digits, settings, tmp_path_factory.mktemp("runs") / "taught")


def views(run):
    return sorted((run.path / "teacher").glob("view-*.npy"))


@pytest.mark.slow
def test_a_student_learns(student, digits_run):
    assert student.metrics["validation"]["top1"] > 80
    info = student.info
    assert (info["stage"], info["architecture"]) == ("distil", STUDENT)
    (model,) = info["teacher"].pop("models")
    assert model == digits_run.digest
    assert info["teacher"] == {"runs": ["resnet8"], "weight": 0.9, "temperature": 3.0, "views": 2}


@pytest.mark.slow
def test_a_student_of_answers_alone_agrees_with_its_teacher(
    digits, settings, digits_run, student, tmp_path
):
    """Labels have no weight: all that it knows comes from the stored answers."""
    only = Teacher((digits_run,), Distillation(weight=1.0, views=2), student.path / "teacher")
    run = distil(only, STUDENT, digits, settings, tmp_path / "run")
    ours, theirs = (
        np.load(r.path / "predictions-validation.npz")["probabilities"].argmax(1)
        for r in (run, digits_run)
    )
    assert (ours == theirs).mean() > 0.8


@pytest.mark.slow
def test_answers_are_those_to_the_batches_that_the_student_sees(
    digits, settings, digits_run, student
):
    """Epoch 3 repeats view 1, mixed and in the same order, each image moved by a pixel at most."""
    seen = training_batches(digits.train, 10, settings, seed=0, first_epoch=3, views=2)
    batches = training_batches(digits.train, 10, settings, seed=0, first_epoch=1)
    for (images, targets), (varied, same) in zip(batches.take(2), seen.take(2), strict=True):
        np.testing.assert_array_equal(targets, same)
        gap = np.abs(images.numpy() - varied.numpy()).mean(axis=(1, 2, 3))
        assert 0 < gap.mean() < 0.5
    model = digits_run.load_model()
    stored = np.load(views(student)[1])
    assert stored.dtype == np.float16
    for answers, (images, _) in zip(stored, batches.take(3), strict=False):
        expected = model.predict_on_batch(images)
        # float16 keeps three digits of the logarithm.
        np.testing.assert_allclose(np.exp(answers.astype(np.float32)), expected, atol=0.01)


@pytest.mark.slow
def test_fine_tuning_varies_views_that_were_learned(
    digits, settings, teacher, student, digits_run, tmp_path
):
    def first_images(parent, run):
        feed = taught_feed(teacher, digits, settings, run, seed=0, parent=parent)
        return next(iter(feed.training(0)))[0].numpy()

    (view, _) = next(iter(training_batches(digits.train, 10, settings, seed=0)))
    new = dataclasses.replace(student, path=tmp_path)
    assert np.abs(first_images(student, new) - view).max() > 0
    assert not (tmp_path / "teacher").exists(), "the parent's answers serve"
    np.testing.assert_array_equal(first_images(digits_run, new), view)
    # Nor does it matter where the answers lie, nor whether the parent's are still there.
    shared = dataclasses.replace(teacher, answers=tmp_path / "shared")
    feed = taught_feed(shared, digits, settings, new, seed=0, parent=student)
    varied = first_images(student, new)
    np.testing.assert_array_equal(next(iter(feed.training(0)))[0], varied)
    other = taught_feed(teacher, digits, settings, new, seed=1, parent=student)
    (first, _) = next(iter(training_batches(digits.train, 10, settings, seed=1)))
    np.testing.assert_array_equal(next(iter(other.training(0)))[0], first)


@pytest.mark.slow
def test_answers_follow_the_epochs(digits, settings, digits_run, student):
    answers = answer_views(
        (digits_run,), digits, settings, student.path / "teacher", views=2, seed=0
    )
    tables = [np.load(path) for path in views(student)]
    steps = len(tables[0])
    found = list(answers.batches(3).take(2 * steps).as_numpy_iterator())
    np.testing.assert_array_equal(np.array(found), np.concatenate([tables[1], tables[0]]))


def test_a_killed_teacher_goes_on_and_another_starts_over(few, settings, digits_run, tmp_path):
    def ask(seed):
        answer_views((digits_run,), few, settings, tmp_path, views=2, seed=seed)
        return [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("view-*.npy"))]

    first = ask(0)
    (tmp_path / "view-001.npy").rename(tmp_path / ".partial-1-view-001.npy")  # as a kill leaves it
    second = ask(0)
    assert second[0] == first[0]
    assert second[1] > first[1]
    assert not list(tmp_path.glob(".partial-*"))
    noted = json.loads((tmp_path / "key.json").read_text())
    del noted["augment"]["rotation"]  # as before there was such a setting
    (tmp_path / "key.json").write_text(json.dumps(noted))
    assert ask(0) == second
    assert min(ask(1)) > max(second)


def test_too_few_views_of_another_run_are_left_as_they_are(few, settings, digits_run, tmp_path):
    earlier, own = tmp_path / "parent", tmp_path / "own"
    ask = functools.partial(answer_views, (digits_run,), few, settings, seed=0)
    ask(earlier, views=1)
    assert ask(own, views=1, earlier=earlier).folder == earlier
    assert ask(own, views=2, earlier=earlier).folder == own
    assert [path.name for path in earlier.glob("view-*.npy")] == ["view-000.npy"]


@pytest.mark.slow
def test_an_ensemble_answers_with_its_mean(few, settings, digits_run, student, tmp_path):
    both = (digits_run, student)
    answer_views(both, few, settings, tmp_path, views=1, seed=0)
    images, _ = next(iter(training_batches(few.train, 10, settings, seed=0)))
    mean = np.mean([run.load_model().predict_on_batch(images) for run in both], axis=0)
    stored = np.load(tmp_path / "view-000.npy")[0].astype(np.float32)
    np.testing.assert_allclose(np.exp(stored), mean, atol=0.01)


def test_a_network_that_was_fine_tuned_for_int8_answers_too(
    few, settings, digits_qat_run, tmp_path
):
    answer_views((digits_qat_run,), few, settings, tmp_path, views=1, seed=0)
    images, _ = next(iter(training_batches(few.train, 10, settings, seed=0)))
    expected = digits_qat_run.load_model().predict_on_batch(images)
    stored = np.load(tmp_path / "view-000.npy")[0].astype(np.float32)
    np.testing.assert_allclose(np.exp(stored), expected, atol=0.01)


def test_the_loss_is_what_its_formula_says():
    goals = distillation_goals(Distillation(weight=0.75, temperature=2.0), 3)
    logits, theirs = np.array([[1.0, -2.0, 0.5]]), np.array([[0.2, 1.0, -1.0]])
    soft, softened = (np.exp(x / 2) / np.exp(x / 2).sum() for x in (theirs, logits))
    ours = np.exp(logits) / np.exp(logits).sum()
    targets = np.concatenate([[[0.0, 1.0, 0.0]], theirs], axis=1)
    expected = 0.75 * 4 * (soft * np.log(soft / softened)).sum() - 0.25 * np.log(ours[0, 1])
    found = goals.loss(tf.constant(targets, tf.float32), tf.constant(ours, tf.float32))
    np.testing.assert_allclose(found, [expected], rtol=1e-5)
    labels = tf.constant([[0.0, 1.0, 0.0]])  # as in validation
    np.testing.assert_allclose(
        goals.loss(labels, tf.constant(ours, tf.float32)), -np.log(ours[:, 1])
    )
    assert goals.accuracy(targets, ours).numpy() == 0


@pytest.mark.slow
def test_quantization_learns_from_a_teacher_too(digits, digits_run, student, teacher):
    run = quantize(
        student, digits, Quantization(epochs=1), student.path.with_name("qat"), teacher=teacher
    )
    assert run.metrics["validation"]["top1"] > student.metrics["validation"]["top1"] - 3
    assert run.info["teacher"]["runs"] == ["resnet8"]
    assert not (run.path / "teacher").exists()  # the student's own answers serve


@pytest.mark.slow
def test_resuming_needs_the_same_teacher(digits, settings, digits_run, student):
    other = Teacher((digits_run,), Distillation(temperature=5.0))
    with pytest.raises(EdgecifarError, match="was begun with teacher"):
        distil(other, STUDENT, digits, settings, student.path)


def test_smoothed_labels_are_refused(digits, settings, teacher, tmp_path):
    smooth = dataclasses.replace(settings, label_smoothing=0.1)
    with pytest.raises(EdgecifarError, match="set it to 0 for distillation"):
        distil(teacher, STUDENT, digits, smooth, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bad_setting_is_named():
    for wrong in (0, float("inf"), float("nan")):
        told = rf"distil\.temperature is {wrong}: it must be above 0"
        with pytest.raises(EdgecifarError, match=told):
            Distillation(temperature=wrong)


@pytest.fixture(scope="module")
def verdict(digits, digits_run, student):
    found = judge((digits_run,), student, digits)
    assert verdict_of(student) == found.text
    return found


@pytest.mark.slow
def test_a_student_is_judged_against_its_teacher(digits_run, student, verdict):
    before, after = verdict.before, verdict.after
    assert (before.name, after.name) == ("resnet8-int8", "taught-int8")
    for side, run in ((before, digits_run), (after, student)):
        assert side.top1 == pytest.approx(run.metrics["validation"]["top1"])
        assert (side.macs, side.parameters) == (run.info["macs"], run.info["parameters"])
    assert verdict.accuracy_change.value == pytest.approx(after.top1 - before.top1)
    assert "than its teacher on this machine" in verdict.text


@pytest.mark.slow
def test_several_teachers_count_as_one(digits, digits_run, student, verdict, long_races):
    both = (digits_run, digits_run)
    twice = judge(both, student, digits).before
    once = verdict.before
    assert twice.name == "resnet8+resnet8-int8"
    assert (twice.top1, twice.zeros) == (once.top1, pytest.approx(once.zeros))
    for field in ("macs", "parameters", "file_bytes", "zipped"):
        assert getattr(twice, field) == 2 * getattr(once, field)
    payload = to_tflite(student.load_model(), "float32", digits.train.images[:1])
    (_, both_timed) = race([payload, (payload, payload)])
    assert both_timed.ratio.value == pytest.approx(2, rel=0.3)


def test_a_verdict_that_cannot_be_measured_stops_it_before_work(
    one_class, settings, teacher, tmp_path
):
    with pytest.raises(EdgecifarError, match="all training images are of the class 1"):
        distil_and_judge(teacher, STUDENT, one_class, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command(digits_run, tmp_path):
    """A run that was finished but not judged, as a kill leaves it, is judged and not repeated."""
    out = tmp_path / "run"
    options = ["--epochs", "1", "--views", "1", "--set", "batch_size=128", "--data", "digits"]
    given = [str(digits_run.path), "--student", "edge-8-s16", "--out", str(out)]
    script = ["distil", *given, *options]
    result = CliRunner().invoke(main, script)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "run.json").read_text())["teacher"]["views"] == 1
    assert "before and after" in result.output
    assert "than its teacher" in " ".join(result.output.split())
    model = (out / "model.h5").stat().st_mtime_ns
    (out / "verdict.json").unlink()
    assert CliRunner().invoke(main, script).exit_code == 0
    assert (out / "verdict.json").exists()
    assert (out / "model.h5").stat().st_mtime_ns == model
    again = CliRunner().invoke(main, script)
    assert again.exit_code == 1
    assert "is finished" in again.stderr


def test_a_temperature_without_a_teacher_is_wrong_usage(digits_run):
    script = ["quantize", str(digits_run.path), "--data", "digits", "--temperature", "2"]
    result = CliRunner().invoke(main, script)
    assert result.exit_code == 2
    assert "need --teacher" in result.stderr


def test_a_student_is_trained_as_suits_it(digits_run, tmp_path, monkeypatch):
    """`baseline` has no batch normalisation, and diverges at the usual rate."""
    asked = []

    def distil_and_judge(teacher, student, dataset, settings, out, **how):
        asked.append(settings)
        raise EdgecifarError("far enough")

    monkeypatch.setattr("edgecifar.compress.steps.distil_and_judge", distil_and_judge)
    script = ["distil", str(digits_run.path), "--student", "baseline", "--data", "digits"]
    assert "far enough" in CliRunner().invoke(main, [*script, "--epochs", "2"]).stderr
    assert (asked[0].optimizer, asked[0].epochs) == ("adam", 2)
    assert asked[0].learning_rate <= 1e-3


def test_images_too_small_for_the_student_are_told_before_the_teacher_is_asked(
    small_digits, settings, teacher, tmp_path
):
    with pytest.raises(EdgecifarError, match="baseline can't take images of 8x8 pixels"):
        distil(teacher, "baseline", small_digits, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
