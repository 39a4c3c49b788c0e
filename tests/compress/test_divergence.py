from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.divergence import LayerError, first_diverging, layer_errors
from edgecifar.compress.formats import FORMATS
from edgecifar.runtime.modelfile import ModelFile

BROKEN = "conv2d_4"


@pytest.fixture(scope="module")
def convert(digits):
    images = calibration_images(digits, 10)

    def convert(model, name):
        form = FORMATS[name]
        payload, kind = form.convert(model, images), form.suffix[1:]
        described = {"input": {"encoding": form.encoding}}
        return ModelFile(Path(f"net.{kind}"), kind, payload, described, None, len(payload))

    return convert


@pytest.mark.parametrize("name", ["float32", "int8", "onnx", "onnx-int8"])
def test_the_layer_that_was_broken_is_found(digits, digits_run, convert, name):
    model, form = digits_run.load_model(), FORMATS[name]
    images = digits.validation.images
    sound = layer_errors(model, convert(model, name), images)
    assert first_diverging(sound, form.layer_limit) is None
    assert sound[-1].layer == "softmax"

    kernel, *rest = model.get_layer(BROKEN).get_weights()
    model.get_layer(BROKEN).set_weights([np.roll(kernel, 1, axis=2), *rest])
    file, whole = convert(model, name), digits_run.load_model()
    found = first_diverging(layer_errors(whole, file, images), form.layer_limit)
    assert BROKEN in (found.layer, *found.fused)
    assert BROKEN in str(found)


def test_a_fine_tuned_model_is_compared_with_what_it_simulates(digits, digits_qat_run, convert):
    model = digits_qat_run.load_model()
    for name in ("int8", "onnx-int8"):
        found = layer_errors(model, convert(model, name), digits.validation.images)
        assert [each.layer for each in found][:2] == ["re_lu", "re_lu_1"]
        assert found[0].fused == ("quantize_layer", "conv2d", "batch_normalization")
        assert found[0].error < 0.01
        assert first_diverging(found, FORMATS[name].layer_limit) is None


def test_a_layer_called_twice_is_compared_too(digits, convert):
    """By the call that fits better: names don't tell the calls apart."""
    taken = keras.Input((32, 32, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(shared(shared(taken)))
    model = keras.Model(taken, keras.layers.Dense(10, activation="softmax", name="last")(pooled))
    found = layer_errors(model, convert(model, "float32"), digits.validation.images)
    assert [each.layer for each in found] == ["shared", "pooled", "last"]
    assert first_diverging(found, FORMATS["float32"].layer_limit) is None


def test_not_a_number_diverges():
    errors = [LayerError("conv2d", 0.01), LayerError("dense", float("nan")), LayerError("add", 1)]
    assert first_diverging(errors, 0.2).layer == "dense"
    assert first_diverging(errors[:1], 0.2) is None
