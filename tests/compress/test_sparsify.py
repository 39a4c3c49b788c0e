import dataclasses

import numpy as np
import pytest

from edgecifar.compress.masks import kernels, zeros_of
from edgecifar.compress.sparsify import Sparsification, layer_sparsity, sparsify, sparsity
from edgecifar.runtime.errors import EdgecifarError

QUICK = Sparsification(sparsity=0.7, ramp=1, epochs=1, learning_rate=0.02, ema=0.9)


@pytest.fixture(scope="module")
def sparse_run(few, digits_run, tmp_path_factory):
    return sparsify(digits_run, few, QUICK, tmp_path_factory.mktemp("sparse") / "resnet8-s70")


def test_the_target_is_met_over_all_kernels(sparse_run, digits_run):
    model = sparse_run.load_model()
    assert sparsity(model) == pytest.approx(0.7, abs=0.005)
    assert sparse_run.info["sparsity"] == sparsity(model)
    assert model.count_params() == digits_run.info["parameters"]
    assert sparse_run.info["stage"] == "sparsify"


@pytest.mark.slow
def test_two_of_four_neighbours_are_zero(few, digits_run, tmp_path):
    recipe = dataclasses.replace(QUICK, pattern="2:4", sparsity=0.5)
    run = sparsify(digits_run, few, recipe, tmp_path / "resnet8-2of4")
    model, pruned = run.load_model(), layer_sparsity(digits_run.load_model(), recipe)
    assert len(pruned) > 3
    for name in pruned:
        # The order in which the toolkit and hardware count: a filter's inputs side by side.
        kernel = np.moveaxis(model.get_layer(name).kernel.numpy(), -1, 0)
        fours = (kernel.reshape(-1, 4) != 0).sum(axis=1)
        assert fours.max() <= 2


def test_zeros_of_an_earlier_step_outlive_more_of_them(sparse_run, few, tmp_path):
    recipe = dataclasses.replace(QUICK, sparsity=0.8)
    run = sparsify(sparse_run, few, recipe, tmp_path / "resnet8-s70-s80")
    after = dict(kernels(run.load_model()))
    assert sparsity(run.load_model()) == pytest.approx(0.8, abs=0.005)
    for key, mask in zeros_of(sparse_run.load_model()).items():
        assert not after[key].numpy()[mask == 0].any()


@pytest.mark.parametrize(
    "change",
    [{"sparsity": 0.3}, {"sparsity": 0.5, "pattern": "2:4"}, {"sparsity": 0.75, "keep": True}],
)
def test_zeros_that_would_be_lost_are_told_before_work_starts(sparse_run, digits, tmp_path, change):
    if "keep" in change:
        change = change | {"keep": (next(iter(zeros_of(sparse_run.load_model())))[0],)}
    recipe = dataclasses.replace(QUICK, **change)
    with pytest.raises(EdgecifarError, match=r"layer \w+ has \d+ % zeros already, some of which"):
        sparsify(sparse_run, digits, recipe, tmp_path / "less")
    assert not (tmp_path / "less").exists()


def test_small_and_kept_layers_stay_dense(digits_run):
    model = digits_run.load_model()
    heavy = max(model.layers, key=lambda layer: layer.count_params()).name
    shares = layer_sparsity(model, dataclasses.replace(QUICK, sparsity=0.4, keep=(heavy,)))
    assert heavy not in shares
    stem = next(layer.name for layer in model.layers if layer.weights)
    assert stem not in shares
    assert min(shares.values()) > 0.4  # the others make up for them


@pytest.mark.parametrize("share", [0, 1, 2])
def test_sparsity_outside_0_and_1(share):
    with pytest.raises(EdgecifarError, match=r"--sparsity is .* between 0 and 1"):
        Sparsification(sparsity=share)


def test_a_few_zeros_are_refused():
    """Later steps couldn't tell them from zeros of chance, and would let them go."""
    with pytest.raises(EdgecifarError, match=r"--sparsity 0\.04 leaves fewer .*: use 0\.1 or more"):
        Sparsification(sparsity=0.04)
    with pytest.raises(EdgecifarError, match=r"2:4 makes half of the weights zero, give 0\.5"):
        Sparsification(sparsity=0.9, pattern="2:4")


def test_bad_input_is_found_before_work_starts(digits, digits_run, tmp_path):
    model = digits_run.load_model()
    heavy = max(model.layers, key=lambda layer: layer.count_params()).name
    names = tuple(layer.name for layer in model.layers)
    for change, message in (
        ({"keep": ("cnv2d",)}, "no layer is called 'cnv2d': did you mean conv2d"),
        ({"keep": names}, "all layers are small or kept dense"),
        ({"keep": names, "pattern": "2:4", "sparsity": 0.5}, "all layers are small or kept dense"),
        ({"sparsity": 0.9, "keep": (heavy,)}, r"--sparsity 0.9 can't be met .* the most is 0\.\d+"),
    ):
        with pytest.raises(EdgecifarError, match=message):
            sparsify(digits_run, digits, dataclasses.replace(QUICK, **change), tmp_path / "none")
    assert not (tmp_path / "none").exists()
