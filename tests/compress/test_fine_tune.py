import dataclasses

import numpy as np

from edgecifar.compress.fine_tune import fine_tune
from edgecifar.compress.masks import zeros_of
from edgecifar.train.pipeline import image_feed
from edgecifar.train.precision import recast


def test_a_sparse_model_stays_sparse_and_float32(digits, digits_run, quick_training, tmp_path):
    """In low precision, where its layers have another type while they are trained."""
    model = digits_run.load_model()
    kernel = max((w for w in model.weights if w.shape.rank == 4), key=lambda w: w.shape[-1])
    kernel.assign(kernel * (np.random.default_rng(0).random(kernel.shape) < 0.5))
    before, zeros = kernel.numpy(), zeros_of(model)
    # Not bfloat16, which becomes float32 where the processor has no instructions for it.
    settings = dataclasses.replace(quick_training, epochs=1, precision="float16")
    assert recast(model, "mixed_float16") is not model

    fine_tune(model, image_feed(digits, settings, seed=0), settings, tmp_path, seed=0)

    assert len(zeros) == 1
    assert (kernel.numpy()[before == 0] == 0).all()
    assert (kernel.numpy()[before != 0] != before[before != 0]).mean() > 0.9
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
