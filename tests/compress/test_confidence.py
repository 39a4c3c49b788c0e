import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress.confidence import best_divisor, divide_logits, divisor
from edgecifar.compress.export import export
from edgecifar.compress.quantize import prepare
from edgecifar.runtime import modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.statistics import expected_calibration_error
from edgecifar.train.evaluate import predict
from edgecifar.train.run import Run


def unsure(probabilities, by):
    """Return the same answers, with logits divided."""
    powers = probabilities ** (1 / by)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def said():
    """Return probabilities that are right as often as they say, and what was right."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, np.array([rng.choice(5, p=row) for row in probabilities])


@pytest.mark.parametrize("by", [0.6, 1.0, 1.7])
def test_the_divisor_undoes_what_made_it_unsure(said, by):
    probabilities, labels = said
    assert best_divisor(unsure(probabilities, by), labels) == pytest.approx(1 / by, rel=0.05)


def test_answers_that_are_all_right_are_not_made_certain(said):
    probabilities, _ = said
    assert best_divisor(probabilities, probabilities.argmax(axis=1)) == 0.25


def test_few_images_decide_nothing(said):
    probabilities, labels = said
    assert best_divisor(probabilities[:99], labels[:99]) == 1


@pytest.mark.parametrize("quantized", [False, True])
def test_dividing_logits_changes_no_answer(digits, digits_run, quantized):
    model = digits_run.load_model()
    if quantized:
        model = prepare(model, digits.train.images[:64])
    before = predict(model, digits.validation)
    assert divide_logits(model, 0.5)
    after = predict(model, digits.validation)
    np.testing.assert_allclose(after, unsure(before, 0.5), atol=1e-5)
    assert not np.allclose(after, before, atol=0.05)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_softmax_in_the_dense_layer_itself_is_no_obstacle(digits, quantized):
    """As most people's own networks have it."""
    keras.utils.set_random_seed(0)
    steps = [
        keras.layers.Conv2D(8, 3, strides=4, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(digits.classes), activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((*digits.image_size, 3)), *steps])
    *rest, kernel, bias = model.get_weights()
    model.set_weights([*rest, 3 * kernel, bias])
    if quantized:
        model = prepare(model, digits.train.images[:64])
    before = predict(model, digits.validation)
    assert divide_logits(model, 0.5)
    after = predict(model, digits.validation)
    np.testing.assert_allclose(after, unsure(before, 0.5), atol=1e-2 if quantized else 1e-5)
    assert not np.allclose(after, before, atol=0.05)


def test_what_ends_otherwise_is_left_alone():
    sigmoid = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="sigmoid")])
    gated = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Softmax()]
    )
    for model in (sigmoid, gated):
        before = model.get_weights()
        assert not divide_logits(model, 0.5)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_an_exported_file_is_as_sure_as_it_is_right(digits, digits_run, tmp_path):
    """The run says less than it knows; its files say what it knows."""
    run = _unsure_run(digits, digits_run, tmp_path / "unsure")
    lines = []
    export(run, digits, ["float32", "int8"], report=lines.append)
    assert sum("logits divided by" in line for line in lines) == 1
    images, labels = digits.validation.images, digits.validation.labels
    own = predict(run.load_model(), digits.validation)
    assert divisor(run) < 0.6
    for path in run.exports.iterdir():
        assert modelfile.read(path).metadata["divisor"] == divisor(run)
        found = Classifier(path).predict(images).probabilities
        assert (found.argmax(axis=1) == own.argmax(axis=1)).mean() > 0.98
        off = expected_calibration_error(own, labels)
        assert expected_calibration_error(found, labels) < off / 2


def test_what_can_t_be_divided_is_told(digits, digits_run, tmp_path, monkeypatch):
    run = _unsure_run(digits, digits_run, tmp_path / "unsure")
    monkeypatch.setattr("edgecifar.compress.export.divide_logits", lambda model, number: False)
    lines = []
    (item,) = export(run, digits, ["float32"], report=lines.append)
    assert any("confidence is that of the network" in line for line in lines)
    assert modelfile.read(item.path).metadata["divisor"] == 1


def test_a_model_from_elsewhere_keeps_its_probabilities(digits, digits_run, tmp_path):
    run = _unsure_run(digits, digits_run, tmp_path / "theirs")
    run.update(stage="adopted")
    assert divisor(run) == 1


def _unsure_run(digits, digits_run, path):
    import shutil

    shutil.copytree(digits_run.path, path)
    run = Run(path)
    model = run.load_model()
    divide_logits(model, 4.0)
    run.save_model(model)
    run.update(name=run.name)
    run.save_predictions("validation", predict(model, digits.validation), digits.validation.labels)
    return run
