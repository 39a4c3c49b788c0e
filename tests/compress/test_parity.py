import numpy as np
import pytest

from edgecifar.compress.parity import compare


def test_comparison_of_known_probabilities():
    keras = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    file = np.array([[0.8, 0.2], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    parity = compare(keras, file, np.array([0, 0, 1, 1]), ("cat", "dog"))
    assert parity.agreement == 75
    assert parity.largest_difference == pytest.approx(0.2)
    assert parity.mean_difference == pytest.approx((0.1 + 0.1 + 0.2 + 0.2) / 8)
    assert parity.per_class == {"cat": -50, "dog": 0}
    assert (parity.keras["top1"], parity.file["top1"]) == (100, 75)
    assert parity.file["low"] < 75 < parity.file["high"]
    assert parity.change.value == -25
    assert parity.change.low < -25 < parity.change.high
    assert "75.00 % of answers the same" in parity.text
    assert "worst class cat (-50.0)" in parity.text


def test_what_fine_tuning_lost_is_told_beside_what_the_file_did():
    labels = np.repeat([0, 1], 200)
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    parity = compare(wrong, wrong, labels, ("cat", "dog"), ("net", right.argmax(axis=1) == labels))
    assert parity.change.value == 0
    assert parity.original_change.value == -100
    assert "; against net in float 100.00 points lost" in parity.text
    assert "against" not in compare(wrong, wrong, labels, ("cat", "dog")).text


def test_a_class_without_images_is_left_out():
    same = np.array([[0.9, 0.1]])
    assert compare(same, same, np.array([0]), ("cat", "dog")).per_class == {"cat": 0}
