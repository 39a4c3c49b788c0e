import numpy as np
import pytest

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.importance import bn_scale, importance, l1, taylor
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data import Split
from edgecifar.train.normalisation import normalise


@pytest.fixture
def network():
    import tf_keras as keras
    from tf_keras import layers

    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization(name="scales")(layers.Conv2D(8, 3)(inputs)))
    x = layers.Conv2D(6, 3, activation="relu", name="plain")(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8), rng.integers(0, 3, 200))


def test_taylor_predicts_the_change_of_the_loss(network, split):
    """For a channel that is nearly zero the first-order change is the change."""
    import tf_keras as keras

    graph = trace(network)
    kernel, bias = network.get_layer("plain").get_weights()
    network.get_layer("plain").set_weights([kernel * 1e-2, bias + 1e-3])
    kernel, bias = network.get_layer("plain").get_weights()
    few = Split(split.images[:100], split.labels[:100])  # one batch: no mean of squares
    scores = taylor(network, graph, few)[graph.layers["plain"].outputs]
    images, labels = normalise(few.images.astype(np.float32)), few.labels

    def loss():
        probabilities = network(images).numpy()
        return float(keras.losses.SparseCategoricalCrossentropy()(labels, probabilities))

    whole = loss()
    changes = []
    for index in range(6):
        cut, none = kernel.copy(), bias.copy()
        cut[..., index] = none[index] = 0
        network.get_layer("plain").set_weights([cut, none])
        changes.append((loss() - whole) ** 2)
    np.testing.assert_allclose(np.sqrt(scores), np.sqrt(changes), rtol=0.1, atol=2e-6)


def test_what_hands_a_channel_on_does_not_count_it_twice(split):
    import tf_keras as keras
    from tf_keras import layers

    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.Conv2D(6, 3, use_bias=False, name="made")(inputs))
    x = layers.DepthwiseConv2D(3, use_bias=False, name="handed_on")(x)
    x = layers.ReLU()(layers.BatchNormalization(center=False)(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))
    graph, made = trace(model), model.get_layer("made")
    few = Split(split.images[:100], split.labels[:100])
    scores = taylor(model, graph, few)[graph.layers["made"].outputs]
    images, kernel = normalise(few.images.astype(np.float32)), made.get_weights()[0]

    def loss():
        probabilities = model(images).numpy()
        return float(keras.losses.SparseCategoricalCrossentropy()(few.labels, probabilities))

    slopes = []
    for index in range(6):
        ends = []
        for factor in (0.99, 1.01):
            scaled = kernel.copy()
            scaled[..., index] *= factor
            made.set_weights([scaled])
            ends.append(loss())
        slopes.append(abs(ends[1] - ends[0]) / 0.02)
    np.testing.assert_allclose(np.sqrt(scores), slopes, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("center", [True, False])
def test_norms_without_a_scale_leave_it_to_the_filter(split, center):
    import tf_keras as keras
    from tf_keras import layers

    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="made")(inputs)
    x = layers.BatchNormalization(scale=False, center=center, name="norm")(x)
    x = layers.Flatten()(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    made, norm = model.get_layer("made"), model.get_layer("norm")
    offsets, mean, variance = np.linspace(0.1, 0.6, 6), np.linspace(-0.3, 0.2, 6), np.ones(6)
    if center:
        norm.set_weights([offsets, mean, variance])
    graph, few = trace(model), Split(split.images[:100], split.labels[:100])
    scores = taylor(model, graph, few)[graph.layers["made"].outputs]
    images = normalise(few.images.astype(np.float32))
    kernel, bias = made.get_weights()
    added = -mean / np.sqrt(1 + norm.epsilon)

    def loss(index, factor):
        scaled, also = kernel.copy(), bias.copy()
        scaled[..., index] *= factor
        also[index] *= factor
        made.set_weights([scaled, also])
        if center:
            moved = offsets.copy()
            moved[index] += (factor - 1) * (offsets + added)[index]
            norm.set_weights([moved, mean, variance])
        probabilities = model(images).numpy()
        return float(keras.losses.SparseCategoricalCrossentropy()(few.labels, probabilities))

    slopes = [abs(loss(index, 1.01) - loss(index, 0.99)) / 0.02 for index in range(6)]
    np.testing.assert_allclose(np.sqrt(scores), slopes, rtol=0.05, atol=1e-4)
    assert scores.min() > 0


def test_dead_filters_matter_least(network, split):
    graph = trace(network)
    scales = network.get_layer("scales")
    gamma, beta, *rest = scales.get_weights()
    gamma[:] = np.linspace(0.01, 0.3, 8)  # among which a scale of 0 is no exception by size
    gamma[2] = beta[2] = 0
    scales.set_weights([gamma, beta, *rest])
    kernel, bias = network.get_layer("plain").get_weights()
    kernel[..., 4] = bias[4] = 0
    network.get_layer("plain").set_weights([kernel, bias])
    normalised, plain = graph.layers["scales"].outputs, graph.layers["plain"].outputs
    for kind in ("taylor", "bn"):
        assert importance(kind, network, graph, split).values[normalised].argmin() == 2
    for kind in ("taylor", "l1"):
        assert importance(kind, network, graph, split).values[plain].argmin() == 4


def test_relative_measures_average_to_one(network):
    graph = trace(network)
    for measure in (l1, bn_scale):
        values = measure(network, graph)
        for group in graph.groups:
            assert values[group.units].mean() == pytest.approx(1)


def test_bn_needs_scales(digits):
    from edgecifar.train import models

    model = models.find("baseline").build((32, 32), 10)
    with pytest.raises(EdgecifarError, match="use --importance l1 or taylor"):
        importance("bn", model, trace(model), digits.train)
