import numpy as np
import pytest

from edgecifar.compress import budget
from edgecifar.compress.budget import fewest_in_float, require_drop
from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.inspect import operations
from edgecifar.compress.selective import ranged
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.timing import TimingPlan


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Time two rounds: nothing here rests on how long a file takes."""
    from edgecifar.compress import latency

    timed = latency.time_interleaved
    plan = TimingPlan(rounds=2, slice_ms=2, warm_up_ms=2)
    monkeypatch.setattr(latency, "time_interleaved", lambda calls: timed(calls, plan))


def test_the_fewest_layers_that_meet_the_budget_stay_in_float(digits, stretched):
    said = []
    choice = fewest_in_float(
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


@pytest.fixture(scope="module")
def file(digits, model):
    return ranged(model, calibration_images(digits, 50))


def test_a_net_that_int8_suits_needs_none(digits, model, file):
    choice = fewest_in_float(file, model, digits, 3.0)
    assert (choice.layers, choice.trials) == ((), 1)
    assert choice.text.endswith("within --max-drop 3: no layer needs float")


def test_a_budget_out_of_reach_is_answered_with_the_nearest(digits, model, file, monkeypatch):
    measured = budget.probabilities
    monkeypatch.setattr(budget, "probabilities", lambda *args: 1 - measured(*args))
    with pytest.raises(EdgecifarError, match=r"no choice of .* give --max-drop \d+\.\d\d, which"):
        fewest_in_float(file, model, digits, 0.5)


@pytest.mark.parametrize("drop", [-0.1, 101, np.nan])
def test_a_budget_is_a_number_of_points(drop):
    with pytest.raises(EdgecifarError, match=r"give points of top-1, such as 0\.5"):
        require_drop(drop)
