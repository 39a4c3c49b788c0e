import shutil

import numpy as np
import pytest

from edgecifar.compress.sensitivity import divergence, measure, sensitivity
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.evaluate import predict
from edgecifar.train.files import read_json
from edgecifar.train.run import Run


def test_the_layers_that_int8_ruins_come_first(digits, stretched):
    model = stretched.run.load_model()
    seen = []

    def track(units):
        for unit in units:
            seen.append(unit.name)
            yield unit

    found = measure(stretched.file, digits.validation, 100, track)
    worst, second, third = found.ranked[:3]
    assert {worst.layer, second.layer} == set(stretched.layers)
    assert second.divergence > 100 * third.divergence > 0
    assert second.top1_change < -20 < third.top1_change
    right = predict(model, digits.validation)[:100].argmax(1) == digits.validation.labels[:100]
    assert (found.float_top1, found.images) == (100 * right.mean(), 100)
    assert seen == [each.layer for each in found.layers]


def test_figures_and_plot_are_stored_in_the_run(digits, digits_run, tmp_path):
    run = Run(tmp_path / "net")
    shutil.copytree(digits_run.path, run.path)
    found = sensitivity(run, digits, images=20, calibration=20)
    stored = read_json(run.path / "sensitivity.json")
    assert [each["layer"] for each in stored["layers"]] == [each.layer for each in found.layers]
    assert (stored["images"], stored["calibration"]) == (20, 20)
    drawn = (run.path / "plots" / "sensitivity.svg").read_text()
    assert drawn.count(" points -->") == len(found.layers)  # the label of each bar
    assert "<svg" in drawn


def test_a_fine_tuned_run_is_sent_to_its_origin(digits, digits_qat_run):
    with pytest.raises(EdgecifarError, match="was fine-tuned for int8: ask about resnet8, the run"):
        sensitivity(digits_qat_run, digits)


def test_divergence_is_zero_between_equals_and_grows_with_the_difference():
    sure = np.array([[0.98, 0.02], [0.5, 0.5]])
    near, far = sure[:, :] * [0.9, 1.1], sure[:, ::-1]
    assert divergence(sure, sure) == 0
    assert 0 < divergence(sure, near) < divergence(sure, far)
    rounded = 1.02 * near  # as of int8 files, whose probabilities don't quite sum to 1
    assert divergence(near, rounded) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])))
