"""Networks of keras.applications behind our normalisation, against keras.applications itself."""

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.models.backbone import enlargement, usual_size
from edgecifar.train.normalisation import normalise
from edgecifar.train.pretrained import KerasWeights
from edgecifar.train.transfer import load_weights


def published(name):
    """A network that does its own preprocessing, and that preprocessing of raw pixels."""
    if name == "resnet50":
        network = keras.applications.ResNet50(
            include_top=False, weights=None, input_shape=(32, 32, 3)
        )
        return network, keras.applications.resnet50.preprocess_input
    network = keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    return network, lambda pixels: pixels


@pytest.mark.parametrize(
    ("name", "layer", "border"),
    [("resnet50", "conv1_bn", 2), ("efficientnetv2b0", "stem_bn", 1)],
)
def test_the_adapted_stem_computes_what_the_published_one_does(tmp_path, name, layer, border):
    keras.utils.set_random_seed(1)
    network, preprocess = published(name)
    norm = network.get_layer(layer)
    norm.set_weights([np.random.uniform(0.5, 2, w.shape) for w in norm.get_weights()])
    network.save_weights(tmp_path / "weights.h5")

    backbone = models.find(name).backbone
    model = backbone.build((32, 32), 10)
    load_weights(backbone, model, str(tmp_path / "weights.h5"))

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    theirs = keras.Model(network.input, norm.output).predict(preprocess(pixels.copy()), verbose=0)
    ours = keras.Model(model.input, model.get_layer(layer).output)
    inside = slice(border, -border)  # padding is grey for one, the mean colour for the other
    np.testing.assert_allclose(
        ours.predict(normalise(pixels), verbose=0)[:, inside, inside],
        theirs[:, inside, inside],
        atol=1e-4 * np.abs(theirs).max(),  # pixels up to 255 through float32 sums
    )


def test_images_are_enlarged_by_whole_factors():
    assert enlargement((32, 48), 96) == 3
    assert enlargement((32, 32), 0) == 1
    with pytest.raises(
        EdgecifarError, match=r"100 is no whole multiple of the images' 32 pixels.*96"
    ):
        enlargement((32, 32), 100)


@pytest.mark.parametrize(("side", "size"), [(32, 96), (64, 128), (96, 96), (224, 224)])
def test_the_usual_size_is_a_multiple(side, size):
    assert usual_size((side, side)) == size


def test_without_a_network_one_line_says_where_the_file_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    weights = KerasWeights(url="http://127.0.0.1:9/some_notop.h5", md5="0" * 32)
    with pytest.raises(EdgecifarError) as caught:
        weights.load(None)
    message = str(caught.value)
    assert "\n" not in message
    assert "put it at ~/.keras/models/some_notop.h5" in message
    assert "--weights PATH" in message


def test_a_missing_file_and_one_of_another_network(tmp_path):
    backbone = models.find("efficientnet_lite0").backbone
    model = backbone.build((32, 32), 10)
    with pytest.raises(EdgecifarError, match=r"none\.h5 is missing"):
        load_weights(backbone, model, str(tmp_path / "none.h5"))
    models.find("resnet8").build((32, 32), 10).save_weights(tmp_path / "other.h5")
    with pytest.raises(EdgecifarError, match="doesn't hold this network's weights"):
        load_weights(backbone, model, str(tmp_path / "other.h5"))
