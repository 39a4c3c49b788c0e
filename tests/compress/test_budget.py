import dataclasses
from dataclasses import fields, replace

import numpy as np
import pytest

from edgecifar.compress import budget
from edgecifar.compress.budget import Choice, Trial, require_drop, search_in_float
from edgecifar.compress.inspect import operations
from edgecifar.compress.latency import Timed
from edgecifar.compress.sensitivity import LayerSensitivity, Sensitivity
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import Estimate, Latency
from edgecifar.runtime.timing import TimingPlan
from edgecifar.train.data import Split
from edgecifar.train.evaluate import predict


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Time two rounds: nothing here rests on how long a file takes."""
    from edgecifar.compress import latency

    timed = latency.time_interleaved
    plan = TimingPlan(rounds=2, slice_ms=2, warm_up_ms=2)
    monkeypatch.setattr(latency, "time_interleaved", lambda calls, _, **__: timed(calls, plan))


def test_the_layers_that_lose_most_stay_in_float(digits, stretched):
    said = []
    choice = search_in_float(
        stretched.file, stretched.run.load_model(), digits, 1.0, report=said.append
    )
    assert set(choice.layers) == set(stretched.layers)
    assert -choice.int8.change.value > 20
    assert -choice.chosen.change.value <= 1
    floats = [op.name for op in operations(choice.chosen.payload) if op.is_float]
    assert floats == ["DEQUANTIZE", "CONV_2D", "CONV_2D", "QUANTIZE"]
    assert f"with {', '.join(stretched.layers)} in float it" in choice.text
    sizes = [len(trial.payload) for trial in (choice.chosen, choice.int8)]
    assert f"costs {sizes[0]:,} bytes instead of {sizes[1]:,} and " in choice.text
    assert len(said) == choice.trials - 1  # all but the last, that takes a layer back


@pytest.fixture(scope="module")
def model(digits_run):
    return digits_run.load_model()


@pytest.fixture
def file(resnet8_ranged):
    return resnet8_ranged


def test_a_net_that_int8_suits_needs_none(digits, model, file):
    choice = search_in_float(file, model, digits, 3.0)
    assert (choice.layers, choice.trials) == ((), 1)
    assert choice.text.endswith("within --max-drop 3: no layer needs float")


def test_a_budget_out_of_reach_is_answered_with_the_nearest(digits, model, file, monkeypatch):
    measured = budget.probabilities
    monkeypatch.setattr(budget, "probabilities", lambda *args: 1 - measured(*args))
    with pytest.raises(
        EdgecifarError, match=r"none of \d+ choices .* give --max-drop \d+\.\d\d, which"
    ):
        search_in_float(file, model, digits, 0.5)


@pytest.mark.parametrize(("lost", "proposed"), [(1, "33.34"), (3, "100.00")])
def test_the_drop_proposed_is_enough(model, file, digits, monkeypatch, lost, proposed):
    """A third is 33.333... points, which 33.33 would not allow."""
    right = predict(model, digits.validation).argmax(axis=1)
    sample = Split(digits.validation.images[:3], right[:3])
    few = dataclasses.replace(digits, validation=sample)
    wrong = np.eye(len(digits.classes))[np.r_[(right[:lost] + 1) % 10, right[lost:3]]]
    monkeypatch.setattr(budget, "probabilities", lambda *args: wrong)
    monkeypatch.setattr(budget, "measure", lambda file, *args: alone(file))
    with pytest.raises(EdgecifarError, match=f"give --max-drop {proposed}, which") as raised:
        search_in_float(file, model, few, 0.5)
    assert float(str(raised.value).partition("--max-drop ")[2].split(",")[0]) >= 100 * lost / 3


def alone(file):
    """Return a measurement of the first layer alone, so that a search ends at once."""
    unit = file.units[0]
    layer = LayerSensitivity(unit.name, unit.layers, unit.operations, 0.0, 0.0)
    return Sensitivity(3, 50, 100.0, (layer,))


def test_braces_in_the_name_of_a_layer_are_only_that():
    change, latency = Estimate(-0.1, -0.2, 0.0), Latency(*[1.0] * len(fields(Latency)))
    int8, chosen = Trial((), change, b"12"), Trial(("conv{0}",), change, b"123")
    choice = Choice(0.5, 100, int8, chosen, Timed(latency, Estimate(1.5, 1.4, 1.6)), 2)
    assert "with conv{0} in float it loses 0.10 points" in choice.text
    assert "costs 3 bytes instead of 2 and 1.50x the time" in choice.text
    busy = replace(choice, times=replace(choice.times, doubts=("it was busy",)))
    assert busy.text == f"{choice.text}; these times are doubtful: it was busy"


@pytest.mark.parametrize("drop", [-0.1, 101, np.nan])
def test_a_budget_is_a_number_of_points(drop):
    with pytest.raises(EdgecifarError, match=r"give points of top-1, such as 0\.5"):
        require_drop(drop)
