"""Models from elsewhere as runs: what is made of them, and what stands in the way."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt import adoption
from edgecifar.train.adopt.adoption import open_or_adopt, rewrite
from edgecifar.train.adopt.copying import SHIFT
from edgecifar.train.adopt.rewrite import for_our_pixels
from edgecifar.train.normalisation import normalise


@pytest.fixture(scope="module")
def file(raw_net, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "resnet50.keras"  # not ours, for all its name
    raw_net.save(path)
    return path


@pytest.fixture(scope="module")
def adopted(file, images):
    run, _ = open_or_adopt(file, lambda: images, beside=file.parent / "runs" / "next")
    return run


@pytest.fixture
def place(adopted, tmp_path):
    """A copy of the adopted run that a test may change, and where its neighbours go."""
    shutil.copytree(adopted.path, tmp_path / "runs" / adopted.name)
    return tmp_path / "runs" / "next"


def test_a_model_becomes_a_run(adopted, file, raw_net, images):
    info = adopted.info
    assert (adopted.name, info["architecture"]) == ("resnet50", "adopted:resnet50")
    assert info["source"]["sha256"] == adoption.digest(file)
    assert info["adopted"]["agreement"] == 100
    assert info["adopted"]["pixels"] == "0..255, which move and scale rescales"
    assert info["adopted"]["changes"][0] == "the layers of branch now lie in the model itself"
    pixels = images.validation.images[:20].astype(np.float32)
    expected, found = raw_net.predict(pixels), adopted.load_model().predict(normalise(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    top1 = adopted.metrics["validation"]["top1"]
    assert top1 == pytest.approx(info["adopted"]["top1_before"])
    assert top1 > 50  # it knows its digits


@pytest.mark.parametrize("pixels", [None, "0..255", "0/1"])
def test_it_is_adopted_once_however_its_scale_is_put(file, place, images, pixels):
    said = []
    run, _ = open_or_adopt(file, lambda: images, pixels=pixels, beside=place, report=said.append)
    assert said == [f"{file} was adopted before: going on with {run.path}"]


def test_another_scale_needs_another_run(file, place, images):
    with pytest.raises(EdgecifarError, match=r"adopted with pixels 0\.\.255, .*: remove that"):
        open_or_adopt(file, lambda: images, pixels="0..1", beside=place)


def test_a_killed_adoption_goes_on_from_any_spelling_of_the_path(
    file, place, images, monkeypatch, tmp_path
):
    (place.parent / "resnet50" / "metrics.json").unlink()
    shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    run, _ = open_or_adopt(Path("resnet50.keras"), lambda: images, pixels="0..255", beside=place)
    assert run.complete
    assert run.info["source"]["path"] == "resnet50.keras"


def test_what_is_in_the_way_is_named(file, place, images, raw_net, tmp_path):
    def attempt(message, path=file):
        with pytest.raises(EdgecifarError, match=message):
            open_or_adopt(path, lambda: images, beside=place)

    other = tmp_path / "resnet50.keras"
    raw_net.save(other)
    attempt("was adopted from another file than .* remove that folder, or rename the file", other)
    foreign = tmp_path / "resnet50.pt"
    foreign.write_bytes(b"PK\3\4rest")
    attempt("is a PyTorch file: build the network in Keras, or export it as ONNX", foreign)
    run = adoption.Run(place.parent / "resnet50")
    run.update(stage="train")
    attempt("has the name that .* would get: rename the file")
    (run.path / "run.json").unlink()
    attempt("is in the way, where .* would be adopted: rename one")


def test_other_data_need_another_run(file, place, images):
    other = dataclasses.replace(images, name="others", fingerprint="0" * 64)
    message = (
        r"was adopted with other data \(.*\) than these \(others, 0{12}\): give the same, or rem"
    )
    with pytest.raises(EdgecifarError, match=message):
        open_or_adopt(file, lambda: other, beside=place)


def test_a_folder_in_which_nothing_was_begun_is_not_in_the_way(file, images, tmp_path):
    left = tmp_path / "runs/resnet50"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    run, _ = open_or_adopt(file, lambda: images, beside=tmp_path / "runs/next")
    assert (run.path, run.complete) == (left, True)


def test_other_classes_are_named(raw_net, images):
    few = dataclasses.replace(images, classes=images.classes[:4])
    with pytest.raises(EdgecifarError, match="tells 10 classes apart, digits has 4: give the data"):
        rewrite(raw_net, few)


def test_two_classes_in_one_value_are_told_how_to_be_two(raw_net, images):
    from tf_keras import Model, layers

    one = Model(raw_net.input, layers.Dense(1, "sigmoid")(raw_net.layers[-2].output))
    two = dataclasses.replace(images, classes=images.classes[:2])
    with pytest.raises(EdgecifarError, match=r"by one value: end it in Dense\(2, "):
        rewrite(one, two)


def test_classes_in_another_order_are_suspected(file, images, tmp_path):
    """As of a network for the folders 0, 1, 10, ... that sorts them as text."""

    def turned(split):
        return dataclasses.replace(split, labels=(split.labels + 1) % len(images.classes))

    other = dataclasses.replace(
        images, train=turned(images.train), validation=turned(images.validation)
    )
    said = []
    open_or_adopt(file, lambda: other, beside=tmp_path / "runs/next", report=said.append)
    assert "its classes are in the order that `edgecifar data info` shows" in said[-1]


def test_the_original_itself_is_what_a_copy_is_compared_with(raw_net, images, monkeypatch):
    def damaged(model, size):
        copy = flatten(model, size)
        kernel, bias = copy.layers[-1].get_weights()
        copy.layers[-1].set_weights([kernel[:, ::-1], bias])
        return copy

    flatten = adoption.flatten
    monkeypatch.setattr(adoption, "flatten", damaged)
    with pytest.raises(EdgecifarError, match=r"doesn't answer as it did .*95 % must agree"):
        rewrite(raw_net, images)


def test_zero_padding_is_made_exact_where_its_grey_matters(raw_net, images, monkeypatch):
    seen = []

    def careless(model, ahead, takes, *, frame_levels):
        seen.append(frame_levels)
        ours = for_our_pixels(model, ahead, takes, frame_levels=frame_levels)
        if frame_levels:
            ours.set_weights([0 * weight for weight in ours.get_weights()])
        return ours

    monkeypatch.setattr(adoption, "for_our_pixels", careless)
    adopted = rewrite(raw_net, images)
    assert seen == [20, 0]
    assert adopted.comparison["agreement"] == 100
    assert SHIFT in [layer.name for layer in adopted.model.layers]


def test_a_scale_that_the_network_s_own_layers_contradict_is_told(raw_net, images, tmp_path):
    path = tmp_path / "net.keras"
    raw_net.save(path)
    run, _ = open_or_adopt(path, lambda: images, pixels="-1..1", beside=tmp_path / "runs")
    assert run.info["adopted"]["pixels"].endswith("though its own move and scale takes 0..255")


def test_a_folder_of_a_saved_model_is_not_in_its_own_way(raw_net, images, tmp_path):
    raw_net.save(tmp_path / "net", save_format="tf")
    run, _ = open_or_adopt(tmp_path / "net", lambda: images, beside=tmp_path / "net-qat")
    assert (run.path, run.complete) == (tmp_path / "net-adopted", True)
