import shutil

import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress import quantize as quantize_module
from edgecifar.compress.bare import probabilities
from edgecifar.compress.export import export
from edgecifar.compress.inspect import operations
from edgecifar.compress.judge import judge
from edgecifar.compress.quantize import Quantization, prepare, quantize
from edgecifar.compress.selective import quantize_but
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.evaluate import predict
from edgecifar.train.keras_files import load_model, save_model
from edgecifar.train.normalisation import RANGE, normalise
from edgecifar.train.run import Run
from edgecifar.train.settings import Training


@pytest.fixture(scope="module")
def prepared(digits, digits_run):
    return prepare(digits_run.load_model(), digits.train.images[:512])


def first(model, kind):
    """Return the first layer of a kind; its name counts the nets that the process has built."""
    return next(layer for layer in model.layers if isinstance(layer, kind))


def weight(model, name):
    (found,) = [w for w in model.weights if w.name == f"{name}:0"]
    return float(found.numpy())


@pytest.mark.parametrize("kind", ["prepared", "partly"])
def test_the_input_has_the_range_of_all_pixels(request, kind):
    low, high, _ = request.getfixturevalue(kind).layers[1].get_weights()
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


def test_dropout_does_not_widen_ranges(digits):
    """Nothing is dropped at inference, and nothing scaled up for it."""

    def ranges(rate):
        pixels = keras.Input(digits.train.images.shape[1:])
        x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=ones)(pixels)
        x = keras.layers.Dropout(rate)(x)
        x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=ones)(x)
        x = keras.layers.Flatten()(keras.layers.SpatialDropout2D(rate)(x))
        found = prepare(keras.Model(pixels, keras.layers.Dense(10)(x)), digits.train.images[:256])
        kept = [w for w in found.weights if "activation_max" in w.name]
        return [float(weight.numpy()) for weight in kept]

    ones = keras.initializers.Constant(0.01)
    assert ranges(0.5)[:2] == pytest.approx(ranges(0.0)[:2], rel=1e-6)


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


@pytest.fixture
def unprepared(monkeypatch):
    """Leave out the slow part of what comes before a run is begun, where it is to be refused."""
    monkeypatch.setattr(quantize_module, "prepare", lambda model, *_, **__: model)


def test_a_finished_run_is_not_overwritten(digits, digits_run, digits_qat_run, unprepared):
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


@pytest.fixture(scope="module")
def partly(digits, digits_run, neighbours):
    images = digits.train.images[:256]
    return prepare(digits_run.load_model(), images, keep_float=neighbours)


def quantizers(model, layer):
    return {w.name.split("/")[-1] for w in model.get_layer(f"quant_{layer}").weights}


def test_layers_kept_in_float_are_not_rounded(partly, prepared, neighbours):
    for name in neighbours:
        assert "kernel_min:0" in quantizers(prepared, name)
        assert "kernel_min:0" not in quantizers(partly, name)
    between, before = (
        each.name.removeprefix("quant_")
        for each in (follower(partly, neighbours[0]), partly.layers[4])
    )
    assert "output_max:0" in quantizers(prepared, between)
    assert "output_max:0" not in quantizers(partly, between)  # one float layer reads another's
    assert "output_max:0" in quantizers(partly, before)  # and the first reads int8


def follower(model, convolution):
    """Return the ReLU behind the norm of a convolution."""
    layer = model.get_layer(f"quant_{convolution}")
    for _ in range(2):
        (layer,) = [node.layer for node in layer.outbound_nodes]
    return layer


def test_the_file_computes_what_was_simulated_partly_in_float(digits, partly, neighbours):
    payload = quantize_but(neighbours, partly, digits.train.images[:20])
    floats = [op.name for op in operations(payload) if op.is_float]
    assert floats == ["DEQUANTIZE", "CONV_2D", "CONV_2D", "QUANTIZE"]
    found = probabilities(payload, digits.validation.images)
    simulated = predict(partly, digits.validation)
    assert (found.argmax(1) == simulated.argmax(1)).mean() > 0.97
    assert np.abs(found - simulated).mean() < 0.01


def test_a_model_partly_in_float_can_be_stored(digits, partly, tmp_path):
    save_model(partly, tmp_path / "model.h5")
    again = predict(load_model(tmp_path / "model.h5"), digits.validation)
    np.testing.assert_allclose(again, predict(partly, digits.validation), atol=1e-5)


def test_layers_that_the_toolkit_rewrites_are_refused():
    model = stack(
        keras.layers.SeparableConv2D(4, 3, name="apart"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax", name="last"),
    )
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    assert "kernel_min:0" not in quantizers(prepare(model, noise, keep_float=["last"]), "last")
    with pytest.raises(EdgecifarError, match="layer apart can't stay in float while fine-tuning"):
        prepare(model, noise, keep_float=["apart"])


def test_an_unknown_layer_stops_it_before_work(digits, digits_run, tmp_path):
    recipe = Quantization(epochs=1, keep_float=("softmaxx",))
    with pytest.raises(EdgecifarError, match="no layer is called 'softmaxx': did you mean softmax"):
        quantize(digits_run, digits, recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_layer_that_computes_nothing_stops_it_before_work(digits):
    model = stack(
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5, name="dropped"),
        keras.layers.Dense(2, activation="softmax"),
    )
    with pytest.raises(EdgecifarError, match="layer dropped computes nothing in the file"):
        Quantization(keep_float=("dropped",)).require_possible(model, digits)


def test_what_cannot_be_quantized_stops_it_before_work(digits, digits_run, tmp_path):
    parent = Run(tmp_path / "gated")
    shutil.copytree(digits_run.path, parent.path)
    model = parent.load_model()
    parent.save_model(keras.Model(model.input, keras.layers.Activation("elu")(model.output)))
    with pytest.raises(EdgecifarError, match=r"\(elu\) has no int8 form"):
        quantize(parent, digits, Quantization(epochs=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_of_one_class_stop_it_before_work(one_class, digits_run, tmp_path):
    with pytest.raises(EdgecifarError, match="all training images are of the class 1"):
        quantize(digits_run, one_class, Quantization(epochs=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_one_with_the_layers_it_was_begun_with(
    digits, digits_run, digits_qat_run, tmp_path, unprepared, finished
):
    begun = Run(tmp_path / digits_qat_run.name)
    shutil.copytree(digits_qat_run.path, begun.path)
    if not finished:
        (begun.path / "metrics.json").unlink()
    begun.update(keep_float=["dense"])
    with pytest.raises(EdgecifarError, match=r"was begun with keep_float \['dense'\], not \[\]"):
        quantize(digits_run, digits, Quantization(epochs=1), begun.path)


def test_what_would_not_be_in_int8_is_refused_before_training(
    digits, digits_run, neighbours, tmp_path, monkeypatch
):
    def forgetful(model, images, keep_float):
        return prepare(model, images, keep_float=neighbours)

    monkeypatch.setattr(quantize_module, "prepare", forgetful)
    with pytest.raises(EdgecifarError, match=r"qat-int8\.tflite is not int8 throughout"):
        quantize(digits_run, digits, Quantization(epochs=1), tmp_path / "late")
    assert not (tmp_path / "late").exists()


@pytest.mark.slow
def test_fine_tuning_partly_in_float(digits, digits_run, partly_float_run, neighbours):
    run = partly_float_run
    part = f"-float-{'+'.join(neighbours)}"
    assert run.info["keep_float"] == list(neighbours)
    assert run.metrics["validation"]["top1"] > digits_run.metrics["validation"]["top1"] - 3
    (item,) = export(run, digits, ["int8"])
    assert item.path.name == f"resnet8-qat{part}-int8.tflite"
    assert item.parity.agreement > 95
    verdict = judge((digits_run,), run, digits)
    assert verdict.after.file_bytes == item.payload_bytes
    # What fine-tuning is credited with is against a file that has the same layers in float.
    assert verdict.beside.name == f"resnet8-int8{part}"
    assert verdict.beside.file_bytes == pytest.approx(item.payload_bytes, rel=0.02)
