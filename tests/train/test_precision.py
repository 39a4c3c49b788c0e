import numpy as np
import pytest
import tf_keras as keras

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models, precision


@pytest.mark.parametrize(
    ("asked", "features", "policy"),
    [
        ("bfloat16", ["bf16"], "mixed_bfloat16"),
        ("bfloat16", ["avx2"], "float32"),
        ("float16", ["bf16"], "float32"),
    ],
)
def test_half_precision_is_for_cpus_that_have_it(monkeypatch, capsys, asked, features, policy):
    """Emulated it would take ten times as long."""
    monkeypatch.setattr(precision, "cpu_features", lambda: features)
    with precision.computing_in(asked) as found:
        assert found == policy == keras.mixed_precision.global_policy().name
    assert keras.mixed_precision.global_policy().name == "float32"
    said = f"training in float32: on this CPU {asked} would be emulated"
    assert (said in capsys.readouterr().err) == (policy == "float32")


def test_a_failed_fit_leaves_the_precision_of_the_next_model_alone():
    with pytest.raises(EdgecifarError, match="diverged"), precision.under("mixed_float16"):
        raise EdgecifarError("the loss diverged")
    assert keras.mixed_precision.global_policy().name == "float32"


def test_a_recast_model_says_the_same_in_fewer_digits():
    keras.utils.set_random_seed(0)
    model = models.find("resnet8").build((16, 16), 10)
    images = np.random.default_rng(0).uniform(-2, 2, (8, 16, 16, 3)).astype(np.float32)
    expected = model.predict_on_batch(images)

    cast = precision.recast(model, "mixed_bfloat16")

    found = cast.predict_on_batch(images)
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert {layer.compute_dtype for layer in cast.layers[1:-1]} == {"bfloat16"}
    assert {weight.dtype.name for weight in cast.weights} == {"float32"}
    assert precision.recast(model, "float32") is model
