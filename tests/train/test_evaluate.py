import numpy as np
import pytest

from edgecifar.runtime.statistics import expected_calibration_error
from edgecifar.train.evaluate import evaluate_run, metrics
from edgecifar.train.run import Run


def test_metrics_of_known_predictions():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], np.float32)
    figures = metrics(probabilities, np.array([0, 0, 1, 1]), ("cat", "dog"))
    assert figures["top1"] == 75
    assert figures["low"] < 75 < figures["high"]
    assert figures["n"] == 4
    assert figures["confusion"] == [[2, 0], [1, 1]]
    assert figures["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.7, 0.4]).mean(), rel=1e-6)
    cat, dog = figures["per_class"]
    assert cat == {
        "name": "cat",
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "support": 2,
    }
    assert dog["recall"] == 0.5


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.tile([[0.95, 0.05]], (10, 1))
    half_right = np.array([0, 1] * 5)
    assert expected_calibration_error(sure, half_right) == pytest.approx(0.45)
    honest = np.tile([[0.5, 0.5]], (10, 1))
    assert expected_calibration_error(honest, half_right) == pytest.approx(0)


def test_evaluating_a_run_adds_its_figures(digits, digits_run, tmp_path):
    import shutil

    run = Run(shutil.copytree(digits_run.path, tmp_path / "resnet8"))
    figures = evaluate_run(run, digits, "test")
    assert run.metrics["test"] == figures
    assert run.metrics["validation"] == digits_run.metrics["validation"]
    stored = np.load(run.path / "predictions-test.npz")
    assert (stored["probabilities"].argmax(1) == stored["labels"]).mean() * 100 == figures["top1"]
