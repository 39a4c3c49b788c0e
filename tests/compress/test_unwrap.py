import numpy as np
import pytest

from edgecifar.compress.unwrap import unwrap
from edgecifar.train.normalisation import normalise


@pytest.fixture(scope="module")
def fine_tuned(digits_qat_run):
    return digits_qat_run.load_model()


@pytest.fixture(scope="module")
def plain(fine_tuned):
    return unwrap(fine_tuned)


def test_the_plain_model_has_the_layers_of_the_original(plain, digits_run):
    names = {layer.name for layer in digits_run.load_model().layers if layer.get_weights()}
    assert names <= {layer.name for layer in plain.model.layers}
    assert not any("quant_" in layer.name for layer in plain.model.layers)


def test_it_computes_what_the_fine_tuned_one_does_but_for_rounded_activations(
    plain, fine_tuned, digits
):
    inputs = normalise(digits.validation.images.astype(np.float32))
    found, expected = (m.predict(inputs, verbose=0) for m in (plain.model, fine_tuned))
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert 0 < np.abs(found - expected).mean() < 0.01


def test_kernels_lie_on_the_steps_of_their_channels(plain):
    """So that quantizing them again finds the numbers that fine-tuning settled on."""
    kernels = [layer for layer in plain.model.layers if hasattr(layer, "kernel")]
    assert {layer.name for layer in kernels} == set(plain.steps)
    for layer in kernels:
        kernel, steps = layer.kernel.numpy(), plain.steps[layer.name]
        whole = steps * kernel / np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
        assert np.abs(whole - np.round(whole)).max() < 1e-3
        shared = "dense" in layer.name  # one step for all of its channels
        assert steps.max() == 127
        assert (steps < 127).any() == shared


def test_ranges_are_those_that_fine_tuning_followed(plain, fine_tuned):
    relu, dense, norm = (
        next(layer.name for layer in plain.model.layers if type(layer).__name__ == kind)
        for kind in ("ReLU", "Dense", "BatchNormalization")
    )
    low, high = plain.ranges[relu]
    assert low == 0
    weights = {weight.name: weight for weight in fine_tuned.get_layer(f"quant_{relu}").weights}
    assert high == next(float(w) for name, w in weights.items() if name.endswith("output_max:0"))
    assert dense in plain.ranges  # whose range is one of its activation
    assert norm not in plain.ranges  # it is fused with the ReLU behind it
