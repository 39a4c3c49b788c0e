"""What training makes of its settings: optimizer, decay, loss, learning rate and average."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from edgecifar.train.ema import WeightAverage
from edgecifar.train.loop import compile_for, fit, schedule
from edgecifar.train.pipeline import image_feed
from edgecifar.train.settings import Augmentation, Training

PLAIN = Augmentation(flip="none", crop=0)


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu", bias_initializer="ones"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, "softmax", bias_initializer="ones"),
        ]
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_decay_shrinks_kernels_and_nothing_else(optimizer):
    model = network()
    rate, decay = 0.05, 0.1
    settings = Training(optimizer=optimizer, learning_rate=rate, weight_decay=decay, warmup=0.0)
    compile_for(model, settings, steps=1)
    before = [weight.numpy() for weight in model.trainable_variables]
    model.optimizer.apply_gradients([(tf.zeros_like(w), w) for w in model.trainable_variables])
    assert [w.ndim for w in before] == [2, 1, 1, 1, 2, 1]
    for old, new in zip(before, model.trainable_variables, strict=True):
        share = 1 - rate * decay if old.ndim > 1 else 1
        np.testing.assert_allclose(new, share * old, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_learns(small_digits, tmp_path, optimizer):
    settings = Training(
        epochs=4, batch_size=32, optimizer=optimizer, learning_rate=0.01, augment=PLAIN
    )
    model = network()
    found = fit(image_feed(small_digits, settings, seed=0), model, settings, tmp_path, seed=0)
    assert type(model.optimizer).__name__.lower() == optimizer
    assert found.best_accuracy > 0.6  # chance is 0.1


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_labels_share_out_a_part_among_all_classes(smoothing):
    model = network()
    compile_for(model, Training(label_smoothing=smoothing), steps=1)
    chances = np.array([[0.91] + [0.01] * 9, [0.1] * 10], np.float32)
    of_all = smoothing / 10
    by_hand = (
        -(1 - smoothing + of_all) * np.log(0.91) - 9 * of_all * np.log(0.01),
        -np.log(0.1),
    )
    loss = model.loss(np.eye(10, dtype=np.float32)[[0, 3]], chances)
    assert float(loss) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_the_average_soon_forgets_the_start():
    """Its decays are 1/10, 2/11, 3/12 and, from then on, the one that was asked for."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    (weight,) = model.weights
    weight.assign([[0.0]])
    average = WeightAverage(0.25)
    average.set_model(model)
    for step, expected in enumerate((0.9, 1.8, 2.7, 3.675)):
        weight.assign([[step + 1.0]])
        average.on_train_batch_end(step)
        assert average.averages[0].numpy().item() == pytest.approx(expected)


@pytest.mark.parametrize(("warmup", "peak"), [(0.0, 0), (0.2, 10)])
def test_the_rate_rises_while_it_warms_up_and_falls_to_nothing(warmup, peak):
    rate = schedule(Training(epochs=5, learning_rate=0.3, warmup=warmup), steps=10)
    rates = np.array([float(rate(step)) for step in range(51)])
    assert rates.argmax() == peak
    assert rates[peak] == pytest.approx(0.3)
    assert rates[0] == pytest.approx(0 if peak else 0.3)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_a_constant_rate_warms_up_too():
    settings = Training(epochs=5, learning_rate=0.3, warmup=0.2, schedule="constant")
    rate = schedule(settings, steps=10)
    rates = np.array([float(rate(step)) for step in range(50)])
    np.testing.assert_allclose(rates, np.minimum(np.arange(50) / 10, 1) * 0.3, rtol=1e-6)


def test_without_warm_up_a_constant_rate_is_a_number():
    settings = Training(learning_rate=0.3, warmup=0.0, schedule="constant")
    assert schedule(settings, steps=10) == pytest.approx(0.3)
