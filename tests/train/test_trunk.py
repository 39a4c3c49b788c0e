"""Other classes on a trained network of ours."""

import dataclasses
import shutil

import numpy as np
import pytest
import tf_keras as keras
from tf_keras import layers

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.copying import SHIFT
from edgecifar.train.data import Split
from edgecifar.train.parsing import override
from edgecifar.train.precision import under
from edgecifar.train.run import Run
from edgecifar.train.transfer import FROM_RUN, HEAD_FROM_RUN, Transfer, freeze, thaw, train
from edgecifar.train.trunk import Trunk, trunk_of

QUICK = override(FROM_RUN, {"epochs": 1, "batch_size": 32, "augment.flip": "none"})


@pytest.fixture(scope="module")
def parity(digits):
    """Even or odd: other classes of the same images, few of them."""

    def halved(split, count):
        return Split(split.images[:count], split.labels[:count] % 2)

    return dataclasses.replace(
        digits,
        classes=("even", "odd"),
        train=halved(digits.train, 320),
        validation=halved(digits.validation, 100),
        fingerprint="2" * 64,
    )


def test_a_run_goes_on_with_other_classes(parity, digits_run, tmp_path):
    transfer = Transfer(str(digits_run.path), head=dataclasses.replace(HEAD_FROM_RUN, epochs=6))
    run = train("resnet8", parity, QUICK, transfer, tmp_path / "run")
    info = run.info
    assert (info["architecture"], info["classes"]) == ("resnet8", ["even", "odd"])
    assert info["transfer"]["weights"] == {"file": "resnet8", "sha256": digits_run.digest}
    assert info["transfer"]["backbone_size"] == 0
    # What the network knew of digits tells even from odd after a few steps; chance is half.
    assert run.metrics["validation"]["top1"] > 75
    classifier = run.load_model().layers[-2]
    assert classifier.units == 2


def test_a_trunk_keeps_its_weights_at_another_image_size(digits, digits_run):
    trunk = trunk_of(digits_run)
    model = trunk.build((48, 40), 3)
    assert (model.input_shape, model.output_shape) == ((None, 48, 40, 3), (None, 3))
    old = {layer.name: layer for layer in digits_run.load_model().layers}
    for layer in trunk.layers(model):
        for new, known in zip(layer.get_weights(), old[layer.name].get_weights(), strict=True):
            np.testing.assert_array_equal(new, known)


def test_a_trunk_computes_in_the_precision_of_the_moment(digits_run):
    known = trunk_of(digits_run)
    with under("mixed_bfloat16"):
        model = known.build((32, 32), 3)
    inner = [*known.layers(model), model.get_layer(known.classifier)]
    assert {layer.compute_dtype for layer in inner} == {"bfloat16"}
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    assert model.output.dtype == "float32"


def test_what_can_t_go_on_is_named(parity, digits, digits_run, digits_qat_run, tmp_path):
    def attempt(architecture, source, dataset=parity, **how):
        train(architecture, dataset, QUICK, Transfer(str(source), **how), tmp_path / "run")

    with pytest.raises(EdgecifarError, match="runs/typo is missing: --weights takes imagenet"):
        attempt("resnet8", "runs/typo")
    with pytest.raises(EdgecifarError, match="resnet8 is a run of resnet8, not of improved"):
        attempt("improved", digits_run.path)
    with pytest.raises(EdgecifarError, match="fine-tuned for int8: give resnet8"):
        attempt("resnet8", digits_qat_run.path)
    with pytest.raises(EdgecifarError, match="leave out --backbone-size"):
        attempt("resnet8", digits_run.path, backbone_size=96)
    assert not (tmp_path / "run").exists()


def trunk(*layers_ahead, size=(12, 16)):
    stack = [keras.Input((*size, 3)), *layers_ahead, layers.Flatten(name="flat")]
    model = keras.Sequential([*stack, layers.Dense(4, name="head"), layers.Softmax()])
    return Trunk("net", model, "head", "flat", "net")


def test_a_network_of_one_size_says_so():
    with pytest.raises(EdgecifarError, match=r"net takes .*12x16 pixels, .*: --image-size 12x16"):
        trunk().build((32, 32), 2)


def test_what_else_goes_wrong_is_no_matter_of_size(monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("no clone")

    known = trunk()
    monkeypatch.setattr(keras.models, "clone_model", broken)
    with pytest.raises(EdgecifarError, match="net can't be built again: no clone"):
        known.build((12, 16), 2)


def test_a_layer_may_have_the_name_of_the_new_softmax():
    model = trunk(layers.Conv2D(3, 1, name="probabilities")).build((12, 16), 2)
    assert [layer.name for layer in model.layers[-2:]] == ["head", "probabilities_"]


def test_the_scale_of_an_adopted_model_s_pixels_is_never_trained():
    known = trunk(layers.DepthwiseConv2D(1, name=SHIFT), layers.Conv2D(3, 1, name="conv"))
    model = known.build((12, 16), 2)
    learning = {}
    freeze(known, model, Transfer("runs/net", unfreeze=50))
    learning["tuned"] = [layer.name for layer in model.layers if layer.trainable_weights]
    thaw(model)
    learning["later"] = [layer.name for layer in model.layers if layer.trainable_weights]
    assert learning == {"tuned": ["conv", "head"], "later": ["conv", "head"]}


def test_a_sparse_run_is_no_start(parity, digits_run, tmp_path):
    """Its zeros would fill up without a word."""
    sparse = Run(shutil.copytree(digits_run.path, tmp_path / "resnet8-s80"))
    model = sparse.load_model()
    model.set_weights(
        [w * (np.arange(w.size).reshape(w.shape) % 5 == 0) for w in model.get_weights()]
    )
    sparse.save_model(model)
    transfer = Transfer(str(sparse.path))
    with pytest.raises(EdgecifarError, match=r"80 % of the weights.* zero.*from the run before"):
        train("resnet8", parity, QUICK, transfer, tmp_path / "run")
    assert not (tmp_path / "run").exists()
