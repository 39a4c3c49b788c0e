import csv

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models, whitening
from edgecifar.train.macs import count_macs
from edgecifar.train.models import edgenet


@pytest.mark.parametrize(
    ("name", "parameters"), [("nano", 82_650), ("small", 484_138), ("base", 1_751_082)]
)
def test_parameter_counts(name, parameters):
    assert models.find(name).build((32, 32), 10).count_params() == parameters


@pytest.mark.parametrize("text", ["16", "s16-s32rr-s48p-relu6", "32r-s96pr-white", "16-32-s48-rep"])
def test_a_shape_is_its_text(text):
    assert str(edgenet.parse(text)) == text


@pytest.mark.parametrize("text", ["8-s16r-s24p", "s16p-8r", "8-s16r-rep"])
def test_counts_need_no_model(text):
    shape = edgenet.parse(text)
    architecture = models.find(f"edge-{text}")
    model = architecture.deployed(architecture.build((20, 27), 7))
    assert shape.parameters(7) == model.count_params()
    assert shape.macs((20, 27), 7) == count_macs(model)


def test_any_shape_and_any_option_is_an_architecture():
    assert models.find("edge-8-s16r").build((16, 16), 5).output_shape == (None, 5)
    bounded = models.find("nano-relu6").build((32, 32), 10)
    peaks = {float(layer.max_value) for layer in bounded.layers if hasattr(layer, "max_value")}
    assert peaks == {6.0}


@pytest.mark.parametrize("name", ["edge-", "edge-16x-s32", "edge-relu6", "edge-16-relu6-s32"])
def test_what_is_no_shape_is_explained(name):
    with pytest.raises(EdgecifarError, match="is no part of a shape like"):
        models.find(name)


def test_an_unknown_option_of_a_preset():
    with pytest.raises(EdgecifarError, match="unknown architecture 'nano-big': did you mean nano"):
        models.find("nano-big")


def unlike_new(model, rng):
    """Give batch normalisation statistics as training leaves them."""
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, gamma.shape),
                    rng.normal(size=beta.shape),
                    rng.normal(size=mean.shape),
                    rng.uniform(0.5, 2, variance.shape),
                ]
            )


@pytest.mark.parametrize("size", [(16, 16), (15, 18)])  # `same` pads odd and even sizes otherwise
def test_folded_branches_compute_the_same(size):
    rng = np.random.default_rng(0)
    known = models.find("edge-8p-s16rp-s16r-rep")
    branched = known.build(size, 5)
    unlike_new(branched, rng)
    plain = known.deploy(branched)
    images = rng.normal(size=(4, *size, 3)).astype(np.float32)
    expected, found = (
        keras.Model(net.input, net.get_layer("classifier").output).predict(images, verbose=0)
        for net in (branched, plain)
    )
    scale = np.ptp(expected, axis=0).max()
    # float32 rounding through nine convolutions.
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)
    kinds = {type(layer).__name__ for layer in plain.layers}
    assert "BatchNormalization" not in kinds
    assert sum(type(layer).__name__ == "Conv2D" for layer in plain.layers) == 9


def test_a_run_of_branches_ends_as_a_plain_net(digits, tmp_path, quick_training):
    from edgecifar.train.session import train

    run = train("edge-8-s16r-rep", digits, quick_training, tmp_path / "rep")
    with (run.path / "history.csv").open() as file:
        accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    # Of the branched net in history, of the plain one in metrics.
    assert run.metrics["validation"]["top1"] == pytest.approx(100 * max(accuracies), abs=0.6)
    assert {type(layer).__name__ for layer in run.load_model().layers} == {
        *("InputLayer", "Conv2D", "ReLU", "Add", "GlobalAveragePooling2D", "Dense", "Softmax")
    }


def test_a_whitened_stem_gives_uncorrelated_features_of_equal_size(digits):
    from edgecifar.train.normalisation import normalise
    from edgecifar.train.session import seeded_build

    model = seeded_build(models.find("edge-16-s16-white"), digits, seed=0)
    stem = keras.Model(model.input, model.get_layer("stem").output)
    seen = stem.predict(normalise(digits.train.images[:200].astype(np.float32)), verbose=0)
    covariance = np.cov(seen[:, 1:-1, 1:-1, :4].reshape(-1, 4), rowvar=False)
    np.testing.assert_allclose(covariance, np.eye(4), atol=0.05)
    np.testing.assert_allclose(seen[..., 8:], -seen[..., :8], atol=1e-4)


def test_a_stem_wider_than_the_patches_have_components():
    model = edgenet.build(edgenet.parse("64"), (12, 12), 3)
    before = model.get_layer("stem").get_weights()[0]
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    edgenet.initialise(model, images)
    after = model.get_layer("stem").get_weights()[0]
    changed = (before != after).any(axis=(0, 1, 2))
    assert changed[:54].all()
    assert not changed[54:].any()


def test_whitening_takes_no_more_patches_of_larger_images(monkeypatch):
    counts, covariance = [], np.cov

    def cov(patches, **how):
        counts.append(len(patches))
        return covariance(patches, **how)

    monkeypatch.setattr(whitening.np, "cov", cov)
    for size in (32, 96):
        images = np.random.default_rng(0).integers(0, 256, (200, size, size, 3), dtype=np.uint8)
        assert whitening.whitening_kernel(images, size=3, filters=16).shape == (3, 3, 3, 16)
    assert counts[0] == 200 * 30 * 30
    assert counts[0] / 2 < counts[1] <= counts[0]
