import dataclasses
import json

import numpy as np
import pytest

from edgecifar.compress import prune as prune_module
from edgecifar.compress.judge import judge
from edgecifar.compress.prune import Pruning, prune
from edgecifar.compress.steps import take
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.checkpoint import Fit
from edgecifar.train.macs import count_macs

QUICK = Pruning(share=0.6, rounds=2, between=1, epochs=2, learning_rate=0.02, ema=0.9)


@pytest.fixture(scope="module")
def pruned(digits, digits_run, tmp_path_factory):
    return prune(digits_run, digits, QUICK, tmp_path_factory.mktemp("prune") / "resnet8-p40")


def test_the_run_holds_a_smaller_dense_model(pruned, digits_run):
    before, after = digits_run.load_model(), pruned.load_model()
    assert count_macs(after) <= 0.6 * count_macs(before)
    assert pruned.info["macs"] == count_macs(after)
    assert pruned.info["parameters"] == after.count_params() < before.count_params()
    assert pruned.info["stage"] == "prune"
    assert pruned.info["parent"] == digits_run.name
    widths = [layer.filters for layer in after.layers if hasattr(layer, "filters")]
    assert all(width % 8 == 0 for width in widths)
    assert after.output_shape == before.output_shape


def test_it_still_classifies(pruned):
    assert pruned.metrics["validation"]["top1"] > 50  # a tenth by chance


def test_the_verdict_is_measured_and_stored(pruned, digits_run, digits):
    verdict = judge((digits_run,), pruned, digits)
    assert verdict.after.file_bytes < 0.8 * verdict.before.file_bytes
    ratio = verdict.latency_ratio
    assert 0 < ratio.low <= ratio.value <= ratio.high
    assert verdict.before.top1 == pytest.approx(digits_run.metrics["validation"]["top1"])
    stored = json.loads((pruned.path / "verdict.json").read_text())
    assert stored["verdict"] == verdict.text


@pytest.mark.slow
def test_an_interrupted_run_goes_on(digits, digits_run, pruned, tmp_path, monkeypatch):
    """Killed in the second round, it neither prunes nor fine-tunes the first again."""
    from edgecifar.compress import prune as module

    fine_tune, seen = module._fine_tune, []

    def killed(*args, number, **options):
        if number == 2:
            raise KeyboardInterrupt
        return fine_tune(*args, number=number, **options)

    monkeypatch.setattr(module, "_fine_tune", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(digits_run, digits, QUICK, tmp_path / "again")
    monkeypatch.setattr(module, "_fine_tune", fine_tune)
    monkeypatch.setattr(module, "_remove", lambda *args, **options: seen.append(args))
    run = prune(digits_run, digits, QUICK, tmp_path / "again")
    assert not seen
    for mine, theirs in zip(
        run.load_model().get_weights(), pruned.load_model().get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("killed_in", [1, 2])
def test_an_interrupted_run_aims_at_the_same_size(
    digits, digits_run, tmp_path, monkeypatch, killed_in
):
    """A share is one of the original's MACs, whatever has been pruned before the interruption."""
    recipe = dataclasses.replace(QUICK, share=0.5, rounds=3, importance="l1")
    killed = [0]

    def fine_tune(*args, number, **options):
        if number == killed[0]:
            raise KeyboardInterrupt
        return Fit((), 0, 0.0, 0.0)

    monkeypatch.setattr(prune_module, "_fine_tune", fine_tune)
    whole = prune(digits_run, digits, recipe, tmp_path / "whole")
    killed[0] = killed_in
    with pytest.raises(KeyboardInterrupt):
        prune(digits_run, digits, recipe, tmp_path / "killed")
    killed[0] = 0
    again = prune(digits_run, digits, recipe, tmp_path / "killed")
    assert again.info["macs"] == whole.info["macs"] <= 0.5 * digits_run.info["macs"]


def test_what_is_left_is_told_where_more_went_than_was_asked(
    digits, digits_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(prune_module, "_fine_tune", lambda *_, **__: Fit((), 0, 0.0, 0.0))
    lines, out = [], tmp_path / "small"
    recipe = dataclasses.replace(QUICK, share=0.5, rounds=1, epochs=1, importance="l1")
    run = prune(digits_run, digits, recipe, out, report=lines.append)
    left = run.info["macs"] / digits_run.info["macs"]
    assert f"{left:.2f} of the MACs left, 0.5 asked for" in lines[0]


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.5])
def test_shares_outside_0_and_1(share):
    with pytest.raises(EdgecifarError, match="give a share between 0 and 1"):
        Pruning(share=share)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.01}, "--macs 0.01 can't be met, the least is"),
        ({"keep": ("conv2x",)}, "no layer is called 'conv2x': did you mean conv2d"),
    ],
)
def test_bad_input_is_found_before_work_starts(digits, digits_run, tmp_path, change, message):
    with pytest.raises(EdgecifarError, match=message):
        prune(digits_run, digits, dataclasses.replace(QUICK, **change), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_verdict_that_cannot_be_measured_stops_it_before_work(one_class, digits_run, tmp_path):
    with pytest.raises(EdgecifarError, match="all training images are of the class 1"):
        take(QUICK, digits_run, one_class, tmp_path / "none")
    assert not (tmp_path / "none").exists()
