import dataclasses

import numpy as np
import tf_keras as keras

from edgecifar.compress.fine_tune import fine_tune
from edgecifar.compress.masks import zeros_of
from edgecifar.runtime.environment import BFLOAT16
from edgecifar.train import precision
from edgecifar.train.keras_files import load_model, save_model
from edgecifar.train.pipeline import image_feed
from edgecifar.train.precision import recast


def test_a_sparse_model_stays_sparse_and_float32(
    digits, digits_run, quick_training, tmp_path, monkeypatch
):
    """In low precision, where its layers have another type while they are trained."""
    model = digits_run.load_model()
    kernel = max((w for w in model.weights if w.shape.rank == 4), key=lambda w: w.shape[-1])
    kernel.assign(kernel * (np.random.default_rng(0).random(kernel.shape) < 0.5))
    before, zeros = kernel.numpy(), zeros_of(model)
    monkeypatch.setattr(precision, "cpu_features", lambda: [BFLOAT16])  # or emulated, slowly
    settings = dataclasses.replace(quick_training, epochs=1, precision="bfloat16")
    assert recast(model, "mixed_bfloat16") is not model

    fine_tune(model, image_feed(digits, settings, seed=0), settings, tmp_path, seed=0)

    assert len(zeros) == 1
    assert (kernel.numpy()[before == 0] == 0).all()
    assert (kernel.numpy()[before != 0] != before[before != 0]).mean() > 0.9
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_what_dropout_drops_follows_from_the_seed(digits, quick_training, tmp_path):
    """However often the model was loaded: a killed step goes on as it would have."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    save_model(model, tmp_path / "model.h5")
    settings = dataclasses.replace(quick_training, epochs=1)
    found = []
    for number, seed in enumerate((3, 3, 4)):
        loaded = load_model(tmp_path / "model.h5")
        feed = image_feed(digits, settings, seed=0)
        fine_tune(loaded, feed, settings, tmp_path / str(number), seed=seed)
        found.append(loaded.get_weights()[0])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).mean() > 0.9
