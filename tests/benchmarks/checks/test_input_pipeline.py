import itertools

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.checks import input_pipeline
from edgecifar.benchmarks.checks.input_pipeline import measure
from edgecifar.train.settings import Augmentation, Training


def test_throughput_is_measured_both_ways(digits, monkeypatch):
    """Of one round after the warm-up, whose seconds are those of real steps."""
    taken, time_steps = [], input_pipeline._time_steps

    def timed(step, feed, steps):
        taken.append(time_steps(step, feed, steps))
        return taken[-1]

    monkeypatch.setattr(input_pipeline, "_time_steps", timed)
    found = measure(digits, Augmentation(), architecture="baseline", rounds=1, steps=2)
    _, _, constant, pipeline = taken
    images = 2 * Training().batch_size
    assert min(taken) > 0
    assert (found.constant, found.pipeline) == (images / constant, images / pipeline)
    assert found.ratio == pytest.approx(found.pipeline / found.constant, rel=1e-9)


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
