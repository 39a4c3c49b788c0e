import pytest
import tf_keras as keras

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.costs import CostModel
from edgecifar.compress.filters.importance import Scores, l1
from edgecifar.compress.filters.selection import removals
from edgecifar.compress.filters.shrink import shrink
from edgecifar.compress.filters.target import Target
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.macs import count_macs


@pytest.fixture(scope="module")
def model():
    return models.find("resnet8").build((32, 32), 10)


@pytest.fixture(scope="module")
def choices(model):
    graph = trace(model)
    scores = Scores(l1(model, graph), absolute=False)
    return list(removals(graph, scores, CostModel(model, graph), by="macs", multiple=8))


def _build(model):
    return lambda choice: shrink(model, trace(model), choice.kept)


def test_macs_and_params_take_the_largest_that_is_small_enough(model, choices):
    for kind, total in (("macs", count_macs(model)), ("params", model.count_params())):
        target = Target(kind, 0.5, model, None)
        index = choices.index(target.choose(choices, _build(model), part=1.0))
        assert getattr(choices[index].cost, kind) <= 0.5 * total
        assert getattr(choices[index - 1].cost, kind) > 0.5 * total


def test_rounds_approach_the_target_in_equal_ratios(model, choices):
    target = Target("macs", 0.25, model, None)
    half = target.choose(choices, _build(model), part=0.5)
    assert 0.3 * count_macs(model) < half.cost.macs <= 0.5 * count_macs(model)


def test_latency_is_searched_by_measuring(model, choices):
    measured = []

    def ratio(smaller):
        measured.append(count_macs(smaller) / count_macs(model))
        return 0.2 + 0.8 * measured[-1]  # a fifth of the time doesn't depend on MACs

    target = Target("latency", 0.6, model, ratio)
    index = choices.index(target.choose(choices, _build(model), part=1.0))
    assert choices[index].cost.macs <= 0.5 * count_macs(model) < choices[index - 1].cost.macs
    assert len(measured) <= len(choices).bit_length() + 1


def test_a_lucky_measurement_does_not_decide(model, choices):
    lucky = iter([0.1] * len(choices).bit_length())

    def ratio(smaller):
        return next(lucky, count_macs(smaller) / count_macs(model))

    target = Target("latency", 0.5, model, ratio)
    chosen = target.choose(choices, _build(model), part=1.0)
    assert chosen.cost.macs <= 0.5 * count_macs(model)
    assert chosen is not choices[-1]


def test_latency_is_that_of_this_machine(long_races):
    """Of the int8 files, in turns: half the filters of a wide layer take less time."""
    import numpy as np
    import tf_keras as keras
    from tf_keras import layers

    from edgecifar.compress.latency import Int8Race

    pixels = keras.Input((32, 32, 3))
    x = layers.Conv2D(96, 3, padding="same", activation="relu")(pixels)
    x = layers.Conv2D(96, 3, padding="same", activation="relu")(x)
    wide = keras.Model(pixels, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    graph = trace(wide)
    scores = Scores(l1(wide, graph), absolute=False)
    fewer = list(removals(graph, scores, CostModel(wide, graph), by="macs", multiple=16))
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    race = Int8Race(wide, noise)
    target = Target("latency", 0.6, wide, race.ratio)
    target.require_reachable(wide, keep=(), multiple=16)
    chosen = target.choose(fewer, _build(wide), part=1.0)
    assert race.ratio(_build(wide)(chosen)) < 0.75  # measured again, while others may work
    assert chosen.cost.macs < 0.8 * count_macs(wide)


def test_what_is_left_is_told_beside_what_was_asked_for(model):
    told = Target("latency", 0.6, model, lambda _: 0.63).left(model)
    assert told == "; 0.63 of the latency left, 0.6 asked for in the end"
    told = Target("params", 0.6, model, None).left(model)
    assert told == "; 1.00 of the parameters left, 0.6 asked for in the end"


def test_an_unreachable_target_names_the_nearest(model):
    with pytest.raises(EdgecifarError, match=r"--macs 0.02 can't be met, the least is 0.\d+: use"):
        Target("macs", 0.02, model, None).require_reachable(model, keep=(), multiple=8)
    with pytest.raises(EdgecifarError, match=r"the least is 0\.31"):
        Target("latency", 0.3, model, lambda _: 0.301).require_reachable(model, keep=(), multiple=8)
    with pytest.raises(EdgecifarError, match=r"smallest network is no faster .*: use --macs$"):
        Target("latency", 0.3, model, lambda _: 0.993).require_reachable(model, keep=(), multiple=8)
    Target("macs", 0.2, model, None).require_reachable(model, keep=(), multiple=8)


def test_filters_that_must_all_stay_are_told():
    """A filter that is gone is zero, which a sigmoid makes a half of."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(16, 3, activation="sigmoid")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    for multiple in (1, 8):
        with pytest.raises(EdgecifarError, match=r"no filter can be removed, .*: use --sparsity"):
            Target("macs", 0.5, model, None).require_reachable(model, keep=(), multiple=multiple)


def test_kept_layers_count_as_unreachable(model):
    names = tuple(layer.name for layer in model.layers if layer.weights)
    with pytest.raises(EdgecifarError, match="no filter can be removed: keep fewer layers or"):
        Target("params", 0.9, model, None).require_reachable(model, keep=names, multiple=8)
