import numpy as np
import pytest

from edgecifar.compress.verdict import Side, Verdict, paired_change
from edgecifar.runtime.statistics import Estimate


def test_paired_change_counts_images_on_which_the_two_differ():
    before = np.repeat([True, True, False, False], [800, 30, 10, 160])
    after = np.repeat([True, False, True, False], [800, 30, 10, 160])
    change = paired_change(before, after)
    assert change.value == pytest.approx(-2.0)
    assert change.low < -2 < change.high < 0
    # Twice the images that differ both ways say nothing else of the mean, but less surely.
    shaky = np.repeat([True, True, False, False], [700, 130, 110, 60])
    other = np.repeat([True, False, True, False], [700, 130, 110, 60])
    assert paired_change(shaky, other).high > 0


def test_no_difference_is_no_certainty():
    same = np.ones(50, dtype=bool)
    change = paired_change(same, same)
    assert change.value == 0
    assert change.low < -1
    assert change.high > 1


def _verdict(step="prune", ratio=(0.6, 0.55, 0.65), change=(-0.2, -0.6, 0.2)):
    before = Side("net", 100, 50, 90.0, 1000, 900, 0.01, 80.0)
    after = Side("net-p50", 50, 20, 89.8, 500, 430, 0.01, 48.0)
    return Verdict(step, before, after, Estimate(*ratio), Estimate(*change), 5000)


def test_verdict_says_what_was_won_and_lost():
    text = _verdict().text
    assert text.startswith("int8 1.67x faster on this machine (0.60x the time, 0.55 to 0.65)")
    assert "file 0.50x, zipped 0.48x" in text
    assert "accuracy unchanged within chance (-0.20 points, -0.60 to +0.20, 5,000" in text
    assert "1.00 points lost" in _verdict(change=(-1.0, -1.4, -0.6)).text


def test_verdict_admits_what_is_not_faster():
    assert _verdict(ratio=(0.99, 0.97, 1.01)).text.startswith("int8 is not faster")


def test_sparsity_never_promises_speed():
    assert "no speed-up is to be expected" in _verdict("sparsify", (0.9, 0.88, 0.92)).text


def test_the_table_has_both_sides():
    rows = {row[0]: row[1:] for row in _verdict().rows()}
    assert rows["MACs"] == ("100", "50")
    assert rows["int8 bytes"] == ("1,000", "500")
