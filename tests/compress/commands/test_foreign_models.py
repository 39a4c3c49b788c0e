"""Models that our zoo doesn't contain, through the real commands from a user's file on."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.compress.commands.distil import distil
from edgecifar.compress.commands.export import export
from edgecifar.compress.commands.prune import prune
from edgecifar.compress.commands.quantize import quantize
from edgecifar.compress.commands.sensitivity import sensitivity
from edgecifar.runtime import modelfile
from edgecifar.runtime.verification import verify
from edgecifar.train.run import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

SHORT = ("--epochs", 1, "--learning-rate", 1e-4)


@dataclass(frozen=True)
class Given:
    """A user's model file and the images that it was trained on."""

    path: Path
    data: Path
    size: tuple[int, int]
    pixels: str | None = None  # where its layers don't tell

    @property
    def source(self) -> tuple:
        """The option by which a command is told the images."""
        return ("--data", self.data)

    @property
    def told(self) -> tuple:
        """The same with the scale of the file's pixels, where its layers don't tell."""
        return (*self.source, *(("--pixels", self.pixels) if self.pixels else ()))

    @property
    def run(self) -> Run:
        """The run that the file becomes, beside those that are made of it."""
        return Run(self.path.parent / "runs" / self.path.stem)


def with_depthwise(x, layers):
    """MobileNet's blocks, on pixels that the net rescales itself."""
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 1, use_bias=False)(x)
    return layers.MaxPooling2D()(layers.ReLU(6)(layers.BatchNormalization()(x)))


def with_concatenation(x, layers):
    """Inception's branches."""
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    wide = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    thin = layers.Conv2D(16, 1, activation="relu")(x)
    return layers.MaxPooling2D()(layers.Concatenate()([wide, thin]))


def plain(x, layers):
    """Two convolutions, on pixels of -1..1 without a layer that says so."""
    x = layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    return layers.Conv2D(16, 3, activation="relu")(x)


def taught(body, keras, data, scale=lambda pixels: pixels):
    """Return a classifier with `body`, fitted to a file of images in a second."""
    arrays = np.load(data)
    images, labels = scale(arrays["images"].astype(np.float32)), arrays["labels"]
    keras.utils.set_random_seed(0)
    inputs = keras.Input(images.shape[1:])
    features = keras.layers.Flatten()(body(inputs, keras.layers))
    classes = int(labels.max()) + 1
    outputs = keras.layers.Dense(classes, activation="softmax")(features)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images, labels, 32, epochs=6, verbose=0)
    return model


def images_of(folder, digits, classes, size):
    """Write 60 digits of each class, cut to (height, width), as a data set of its own."""
    part = digits.train
    chosen = np.concatenate([np.flatnonzero(part.labels == each)[:60] for each in range(classes)])
    path = folder / f"digits{classes}.npz"
    images = part.images[chosen][:, : size[0], : size[1]]
    np.savez(path, images=images, labels=part.labels[chosen])
    return path


@pytest.fixture(scope="module")
def given(digits, tmp_path_factory):
    """Give the model file of a name, made once."""
    import keras as keras3
    import tf_keras as keras2

    folder = tmp_path_factory.mktemp("user")

    @cache
    def make(name):
        file, small = folder / name, name == "small.keras"
        size = (28, 24) if small else (32, 32)
        data = images_of(folder, digits, 3 if small else 4, size)
        if small:
            model = taught(plain, keras2, data, lambda pixels: pixels / 127.5 - 1)
        elif name == "new.keras":
            model = taught(with_concatenation, keras3, data)
        else:
            body = with_depthwise if name == "depthwise.h5" else with_concatenation
            model = taught(body, keras2, data)
        model.save(file)
        return Given(file, data, size, "-1..1" if small else None)

    return make


def done(command, *arguments):
    """Run a command as a user does; return what it printed."""
    result = CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def export_int8(model, source, folder):
    """Export a model with the command; compute the golden outputs of the file that it wrote."""
    done(export, model, *source, "--int8", "--out", folder)
    (file,) = folder.glob("*.tflite")
    return verify(file).agreement


@pytest.mark.parametrize("name", ["depthwise.h5", "concatenation", "small.keras"])
def test_a_model_is_pruned_and_exported(given, name):
    file = given(name)
    smaller = file.run.beside(f"{file.run.name}-p40")
    less = ("--macs", 0.6, "--rounds", 1, "--importance", "l1", *SHORT)
    assert "comparing with the original" in done(
        prune, file.path, *file.told, *less, "--out", smaller
    )
    info, pruned = file.run.info, Run(smaller).info
    assert info["adopted"]["agreement"] >= 99
    assert info["image_size"] == list(file.size)
    assert pruned["macs"] <= 0.6 * info["macs"]
    assert pruned["architecture"] == info["architecture"] == f"adopted:{file.path.stem}"
    assert export_int8(smaller, file.source, smaller / "exports").identical


@pytest.mark.parametrize("name", ["depthwise.h5", "concatenation", "small.keras"])
def test_a_model_is_quantized_and_exported(given, name):
    file = given(name)
    int8 = file.run.beside(f"{file.run.name}-qat")
    done(quantize, file.path, *file.told, *SHORT, "--out", int8)
    assert json.loads((int8 / "verdict.json").read_text())["verdict"]
    assert export_int8(int8, file.source, int8 / "exports").identical


def test_a_model_takes_every_other_command(given, tmp_path, monkeypatch):
    file = given("small.keras")
    monkeypatch.chdir(file.path.parent)  # where the run of the file goes
    done(export, file.path, *file.told, "--int8", "--onnx", "--out", tmp_path)
    record = json.loads((tmp_path / "exports.json").read_text())["files"]
    assert "QLinearConv" in record["small-int8.onnx"]["verdict"]
    described = modelfile.read(tmp_path / "small-int8.tflite").metadata
    assert "recipe" not in described, "nobody told how it was trained"
    sparse = tmp_path / "sparse"
    half = ("--sparsity", 0.5, *SHORT)
    assert "no speed-up is to be expected" in done(
        prune, file.run.path, *file.source, *half, "--out", sparse
    )
    assert Run(sparse).info["sparsity"] == pytest.approx(0.5, abs=0.01)
    layers = done(sensitivity, file.run.path, *file.source, "--images", 12, "--calibration", 20)
    assert all(name in layers for name in ("conv2d", "dense"))
    student = ("--student", "edge-8-s16", "--epochs", 1, "--views", 1, "--set", "batch_size=16")
    told = done(distil, file.run.path, *file.source, *student, "--out", tmp_path / "student")
    assert "than its teacher" in told


def test_a_file_of_keras_3_is_exported(given, monkeypatch):
    file = given("new.keras")
    monkeypatch.chdir(file.path.parent)  # where the run of the file goes
    folder = file.path.parent / "files"
    assert export_int8(file.path, file.told, folder).identical
    assert file.run.info["adopted"]["agreement"] >= 99
