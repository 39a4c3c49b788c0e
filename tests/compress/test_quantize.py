import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from edgecifar.compress.quantize import Quantization, prepare, quantize, require_quantizable
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.evaluate import predict
from edgecifar.train.normalisation import RANGE, normalise
from edgecifar.train.recipe import Training


@pytest.fixture(scope="module")
def prepared(digits, digits_run):
    return prepare(digits_run.load_model(), digits.train.images[:512])


def first(model, kind):
    """Return the first layer of a kind; its name counts the nets that the process has built."""
    return next(layer for layer in model.layers if isinstance(layer, kind))


def weight(model, name):
    (found,) = [w for w in model.weights if w.name == f"{name}:0"]
    return float(found.numpy())


def test_the_input_has_the_range_of_all_pixels(prepared):
    low, high = prepared.layers[1].get_weights()[:2]
    assert (low, high) == RANGE


def test_ranges_are_those_of_real_activations(digits, digits_run, prepared):
    """Guards the toolkit's decay, from which the ranges are worked out."""
    model = digits_run.load_model()
    pool = first(model, keras.layers.GlobalAveragePooling2D)
    pooled = keras.Model(model.input, pool.output)
    batches = np.split(normalise(digits.train.images[:512].astype(np.float32)), 4)
    largest = np.mean([pooled.predict(batch, verbose=0).max() for batch in batches])
    found = weight(prepared, f"quant_{pool.name}/output_max")
    # The layers before it round to 8 bits here.
    assert found == pytest.approx(largest, rel=0.05)


def test_simulated_int8_is_close_before_any_fine_tuning(digits, digits_run, prepared):
    original, simulated = (
        predict(model, digits.validation) for model in (digits_run.load_model(), prepared)
    )
    assert (original.argmax(1) == simulated.argmax(1)).mean() > 0.9
    assert not np.array_equal(original, simulated)


def test_statistics_of_the_float_model_do_not_move(digits_run, prepared):
    norm = first(digits_run.load_model(), keras.layers.BatchNormalization)
    inner = prepared.get_layer(f"quant_{norm.name}").layer
    for ours, theirs in zip(inner.get_weights(), norm.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fine_tuning_keeps_the_accuracy(digits_run, digits_qat_run):
    before, after = (run.metrics["validation"]["top1"] for run in (digits_run, digits_qat_run))
    assert after > before - 3
    info = digits_qat_run.info
    assert (info["stage"], info["parent"]) == ("quantize", "resnet8")
    assert (info["parameters"], info["macs"]) == (78_666, 12_501_632)


def test_the_stored_model_is_the_fine_tuned_one(digits, digits_qat_run):
    stored = np.load(digits_qat_run.path / "predictions-validation.npz")["probabilities"]
    again = predict(digits_qat_run.load_model(), digits.validation)
    np.testing.assert_allclose(again, stored, atol=1e-5)


def test_a_finished_run_is_not_overwritten(digits, digits_run, digits_qat_run):
    with pytest.raises(EdgecifarError, match="is finished"):
        quantize(digits_run, digits, Quantization(epochs=1), digits_qat_run.path)


def test_settings_come_from_the_float_run():
    settings = Quantization(epochs=2).settings(Training(batch_size=32, precision="bfloat16"))
    assert (settings.batch_size, settings.epochs, settings.precision) == (32, 2, "float32")


def test_a_bad_setting_is_named():
    with pytest.raises(EdgecifarError, match="epochs is 0"):
        Quantization(epochs=0)


def stack(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.Rescaling(1 / 64, name="scale"), "layer scale can't be quantized: normalise"),
        (stack(keras.layers.Flatten()), "is a model inside the model: inline its layers"),
        (keras.layers.Lambda(tf.abs, name="odd"), r"layer odd \(Lambda\) has no int8 form"),
    ],
)
def test_layers_that_cannot_be_quantized_are_named(layer, message):
    with pytest.raises(EdgecifarError, match=message):
        require_quantizable(stack(layer))
