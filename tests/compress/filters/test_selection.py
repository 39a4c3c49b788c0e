import numpy as np
import pytest

from edgecifar.compress.filters.channels import trace
from edgecifar.compress.filters.costs import CostModel
from edgecifar.compress.filters.importance import Scores
from edgecifar.compress.filters.selection import refilled, removals, smallest
from edgecifar.train import models


@pytest.fixture(scope="module")
def network():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(20, 3, name="odd")(inputs)
    x = layers.Conv2D(32, 3, name="even")(layers.ReLU()(x))
    x = layers.Conv2D(4, 1, name="narrow")(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def _widths(graph, choice):
    return {g.makers[0]: int(choice.kept[g.units].sum()) for g in graph.groups}


def test_sizes_fall_to_multiples_and_never_below_one(network):
    graph = trace(network)
    scores = Scores(np.random.default_rng(0).random(graph.units), absolute=False)
    choices = list(removals(graph, scores, CostModel(network, graph), by="macs", multiple=8))
    widths = [_widths(graph, choice) for choice in choices]
    assert widths[0] == {"odd": 20, "even": 32, "narrow": 4}
    assert widths[-1] == {"odd": 8, "even": 8, "narrow": 4}
    assert {w["odd"] for w in widths} == {20, 16, 8}
    assert {w["even"] for w in widths} == {32, 24, 16, 8}
    macs = [choice.cost.macs for choice in choices]
    assert macs == sorted(macs, reverse=True)
    least = smallest(graph, CostModel(network, graph), multiple=8)
    assert least.cost == choices[-1].cost


def test_what_a_large_step_took_too_much_is_given_back():
    """Residual blocks share their widths, so that a single step saves a lot."""
    model = models.find("resnet8").build((32, 32), 10)
    graph = trace(model)
    costs = CostModel(model, graph)
    scores = Scores(np.random.default_rng(3).random(graph.units), absolute=True)
    whole = costs(graph.all_kept()).macs
    how = {"by": "macs", "multiple": 8}
    for share in (0.75, 0.5, 0.25):
        choices = removals(graph, scores, costs, **how)
        small = next(choice for choice in choices if choice.cost.macs <= share * whole)
        full = refilled(small, graph, scores, costs, most=share * whole, **how)
        assert small.cost.macs <= full.cost.macs <= share * whole
        assert full.cost.macs > (share - 0.06) * whole
        assert (full.kept >= small.kept).all()
        for group in graph.groups:
            kept = full.kept[group.units]
            assert kept.sum() % 8 == 0
            here = scores.values[group.units]
            assert kept.all() or here[~kept].max() < here[kept].min()
        assert refilled(full, graph, scores, costs, most=share * whole, **how) is full


def test_the_least_important_filters_go_first(network):
    graph = trace(network)
    values = np.random.default_rng(1).random(graph.units)
    even = next(g.units for g in graph.groups if g.makers == ("even",))
    choices = removals(
        graph, Scores(values, absolute=False), CostModel(network, graph), by="params", multiple=8
    )
    for choice in choices:
        here = choice.kept[even]
        if not here.all():
            assert values[even][~here].max() < values[even][here].min()


def test_absolute_scores_are_weighed_against_what_is_saved(network):
    graph = trace(network)
    odd = next(g.units for g in graph.groups if g.makers == ("odd",))
    values = np.ones(graph.units)
    values[odd] = 1.5  # more important a filter, but at 6x6 pixels it costs twice the MACs
    costs = CostModel(network, graph)
    _, first, *_ = removals(graph, Scores(values, absolute=True), costs, by="macs", multiple=8)
    assert _widths(graph, first) == {"odd": 16, "even": 32, "narrow": 4}


def test_relative_scores_keep_the_widths_in_proportion():
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, name="narrow")(inputs)
    x = layers.Conv2D(128, 3, name="wide")(x)
    network = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    graph = trace(network)
    scores, costs = Scores(np.ones(graph.units), absolute=False), CostModel(network, graph)
    for choice in removals(graph, scores, costs, by="macs", multiple=8):
        widths = _widths(graph, choice)
        assert abs(widths["wide"] / 128 - widths["narrow"] / 32) <= 0.25  # a step of the narrow one
