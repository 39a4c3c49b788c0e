import itertools

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.checks import input_pipeline
from edgecifar.benchmarks.checks.input_pipeline import measure
from edgecifar.train.recipe import Augmentation


def test_throughput_is_measured_both_ways(digits):
    found = measure(digits, Augmentation(), architecture="baseline", rounds=2, steps=2)
    assert found.constant > 0
    # Medians of ratios and ratios of medians part ways only as far as the rounds do.
    assert found.ratio == pytest.approx(found.pipeline / found.constant, rel=0.9)


def test_a_pipeline_that_is_too_slow_fails(digits, monkeypatch):
    """Of two seconds with the pipeline and one without it the ratio is a half."""
    seconds = itertools.cycle((1.0, 2.0))
    monkeypatch.setattr(input_pipeline, "_time_steps", lambda *_: next(seconds))
    found = measure(digits, Augmentation(), architecture="baseline", rounds=2, steps=2)
    assert found.ratio == 0.5
    monkeypatch.setattr(input_pipeline, "measure", lambda *_, **__: found)
    done = CliRunner().invoke(input_pipeline.main, ["--data", "digits"])
    assert done.exit_code == 1
    assert "50.0 %, at least 90 % asked" in done.output
