"""What a user may give by mistake, each answered in one line."""

import json
import zipfile

import numpy as np
import pytest
import tf_keras as keras
from tf_keras import layers

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.contents import require_known
from edgecifar.train.adopt.files import digest, read_model
from edgecifar.train.keras_files import load_model

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def net(*inner):
    return keras.Sequential([keras.Input((8, 8, 3)), *inner, layers.Flatten(), layers.Dense(2)])


def refused(path, message):
    with pytest.raises(EdgecifarError, match=message) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(2)

    def call(self, inputs):
        return self.dense(self.flatten(inputs))


@pytest.fixture(params=["net.keras", "net.h5", "saved"])
def name(request):
    return request.param


def test_each_kind_of_file_is_read(tmp_path, name):
    model = net(layers.Conv2D(4, 3))
    model.save(tmp_path / name)
    image = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(read_model(tmp_path / name)(image), model(image))


def test_code_in_a_file_is_not_run(tmp_path, name):
    net(layers.Lambda(lambda x: x / 255, name="odd")).save(tmp_path / name)
    refused(tmp_path / name, r"layer odd of .* \(Lambda\) holds Python code, which isn't run")


def test_code_inside_a_wrapper_is_not_run(tmp_path, name):
    inner = layers.Lambda(lambda x: x / 255, name="odd")
    net(layers.TimeDistributed(inner, name="each")).save(tmp_path / name)
    refused(tmp_path / name, r"layer odd of .* \(Lambda\) holds Python code, which isn't run")
    if name != "saved":  # whose layers are revived from its graph
        with pytest.raises(EdgecifarError, match=r"can't be loaded .*[Ll]ambda"):
            load_model(tmp_path / name)  # were it let through, its code wouldn't be run either


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "Conv2D",
            {"module": "keras_evil.layers"},
            r"first .* \(Conv2D\) is a custom layer",
        ),
        (
            "GlorotUniform",
            {"module": "os"},
            r"first .*Uniform\) is a custom part",
        ),
        ("Conv2D", {"class_name": "get_file", "module": "keras.utils"}, "is a custom layer"),
        ("Conv2D", {"class_name": "serialize", "module": "keras.layers"}, "is a custom layer"),
    ],
)
def test_parts_are_keras_own(tmp_path, part, change, message):
    net(layers.Conv2D(4, 3, name="first")).save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    entry = config["config"]["layers"][1]
    (entry if part == "Conv2D" else entry["config"]["kernel_initializer"]).update(change)
    files["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    refused(tmp_path / "changed.keras", message)


def test_operations_compute_and_do_nothing_else(tmp_path):
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, layers.Flatten()(inputs[..., ::-1] / 255)).save(tmp_path / "fine.h5")
    read_model(tmp_path / "fine.h5")
    settings = {"name": "tf.io.write_file", "function": "io.write_file"}
    entry = {"class_name": "TFOpLambda", "config": settings}
    config = {"class_name": "Functional", "config": {"layers": [entry]}}
    with pytest.raises(EdgecifarError, match=r"tf.io.write_file .* \(TFOpLambda\) is a custom"):
        require_known(config, tmp_path / "odd.h5")


def test_a_file_of_two_kinds_is_judged_by_what_is_loaded(tmp_path):
    net().save(tmp_path / "net.h5")
    net(layers.Lambda(lambda x: x, name="odd")).save(tmp_path / "odd.keras")
    both = (tmp_path / "net.h5").read_bytes() + (tmp_path / "odd.keras").read_bytes()
    (tmp_path / "both.keras").write_bytes(both)
    refused(tmp_path / "both.keras", r"layer odd .* holds Python code")
    net().save(tmp_path / "net.keras")
    (tmp_path / "net.keras").rename(tmp_path / "renamed.h5")
    refused(tmp_path / "renamed.h5", "is a .keras file under another name")


def test_custom_layers_inside_models_too(tmp_path, name):
    inner = keras.Sequential([Doubled(name="own")])
    net(inner).save(tmp_path / name)
    refused(tmp_path / name, r"layer own of .* \(Doubled\) is a custom layer")


@pytest.mark.parametrize("name", ["net.keras", "saved"])  # HDF5 can't hold one
def test_subclassed_models(tmp_path, name):
    model = Subclassed()
    model(np.ones((1, 8, 8, 3), np.float32))
    model.save(tmp_path / name)
    refused(tmp_path / name, "holds the subclassed model Subclassed")


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_cut_files(tmp_path, name):
    net(layers.Conv2D(4, 3)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / name, "is cut short or damaged: copy it again")


def test_a_saved_model_with_lost_variables(tmp_path):
    net().save(tmp_path / "saved")
    for file in (tmp_path / "saved" / "variables").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    refused(tmp_path / "saved", "can't be loaded")


def test_a_saved_model_without_layers(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "graph"))
    refused(tmp_path / "graph", "a SavedModel without Keras' layers .*: give the .keras or .h5")


def test_weights_alone(tmp_path):
    net().save_weights(tmp_path / "net.h5")
    refused(tmp_path / "net.h5", "holds weights without a network")


def test_a_quantized_model(digits_qat_run):
    refused(digits_qat_run.path / "model.h5", "is the optimization toolkit's: give the model from")


def test_files_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat.png", "meow")
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3rest")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07")
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", "weights")
    with zipfile.ZipFile(tmp_path / "list.keras", "w") as archive:
        archive.writestr("config.json", "[]")
        archive.writestr("metadata.json", '{"keras_version": "3.1"}')
    (tmp_path / "note.keras").write_text("hello")
    (tmp_path / "empty.h5").touch()
    refused(tmp_path / "photos.zip", "is a zip file without a Keras model")
    refused(tmp_path / "net.tflite", "is a TFLite file, which can't be trained on: give the Keras")
    refused(tmp_path / "net.onnx", "is an ONNX file: give a .keras or .h5 file")
    refused(tmp_path / "net.pth", "is a PyTorch file: build the network in Keras, or export it as")
    refused(tmp_path / "list.keras", "is a zip file without a Keras model")
    refused(tmp_path / "note.keras", "is no model of Keras: give a .keras or .h5 file")
    refused(tmp_path / "empty.h5", "is no model of Keras")
    refused(tmp_path / "none.h5", "is missing")


def test_a_digest_of_a_folder_sees_names_and_contents(tmp_path):
    for name, file, text in (("a", "x", "1"), ("b", "y", "1"), ("c", "x", "2"), ("d", "x", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    found = [digest(tmp_path / name) for name in "abcd"]
    assert len(set(found)) == 3
    assert found[0] == found[3]
