import pytest

from edgecifar.benchmarks.input_pipeline import measure
from edgecifar.train.recipe import Augmentation


def test_throughput_is_measured_both_ways(digits):
    found = measure(digits, Augmentation(), architecture="baseline", rounds=2, steps=2)
    assert found.constant > 0
    # Medians of ratios and ratios of medians part ways only as far as the rounds do.
    assert found.ratio == pytest.approx(found.pipeline / found.constant, rel=0.9)
