import dataclasses
import os
import socket
import subprocess
import sys

import pytest

from edgecifar.benchmarks.search.cost import Cost, Stopwatch
from edgecifar.benchmarks.search.front import draw_front, print_trials
from edgecifar.benchmarks.search.search import Plan, promising, search
from edgecifar.benchmarks.search.space import (
    Limits,
    draw_shapes,
    estimated_bytes,
    parse_latency,
)
from edgecifar.benchmarks.search.study import Trials
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.models.edgenet import parse
from edgecifar.train.recipe import Training

LIMITS = Limits(bytes=60_000, latency=2.0, relative=True)
TINY = Training(epochs=1, batch_size=64, learning_rate=0.05)
PLAN = Plan(LIMITS, shapes=2, trained=1, training=TINY)


def by_work(shape):
    """Latency as if a ResNet-8's worth of MACs took one."""
    return shape.macs((32, 32), 10) / 12.5e6


def test_drawn_shapes_are_near_the_limits():
    shapes = draw_shapes(50, LIMITS, (32, 32), 10, latency=by_work, seed=0)
    assert len(set(shapes)) == 50
    assert all(estimated_bytes(shape, 10) <= LIMITS.bytes for shape in shapes)
    assert all(by_work(s) > 1.4 or estimated_bytes(s, 10) > 42_000 for s in shapes)
    assert {str(stage)[0] for shape in shapes for stage in shape.stages[1:]} == {"s"}
    assert shapes == draw_shapes(50, LIMITS, (32, 32), 10, latency=by_work, seed=0)


def test_limits_that_nothing_meets():
    with pytest.raises(EdgecifarError, match=r"no shape for 32x32 images is within the limits"):
        draw_shapes(1, Limits(1000, 1.0, True), (32, 32), 10, latency=by_work, seed=0)


@pytest.mark.parametrize(
    ("text", "value"), [("250", (250, False)), ("250us", (250, False)), ("0.9x", (0.9, True))]
)
def test_latencies_are_microseconds_or_multiples(text, value):
    assert parse_latency(text) == value


@pytest.mark.parametrize("text", ["fast", "x", "3 ms"])
def test_what_is_no_latency(text):
    with pytest.raises(EdgecifarError, match=r"is no latency: write 250us, or 0\.9x"):
        parse_latency(text)


@pytest.fixture(scope="module")
def costs():
    stopwatch = Stopwatch((32, 32), 10)
    return {text: stopwatch.measure(parse(text)) for text in ("16-s32r", "32p-s64rr-s96r")}


def test_sizes_are_estimated_within_two_percent(costs):
    for text, cost in costs.items():
        assert estimated_bytes(parse(text), 10) == pytest.approx(cost.bytes, rel=0.02)


def test_six_times_the_work_takes_longer(costs):
    light, heavy = costs.values()
    assert 1.5 * light.ratio < heavy.ratio
    assert light.latency_us < heavy.latency_us


def cost(size, ratio):
    return Cost(bytes=size, latency_us=100 * ratio, ratio=ratio, low=ratio, high=ratio)


def test_only_shapes_within_both_limits_are_promising():
    figures = {"16-s16": (9, 1), "16-s32": (9, 1), "16-s64": (9, 3), "16-s80": (99_999, 1)}
    found = {parse(text): cost(*pair) for text, pair in figures.items()}
    plan = dataclasses.replace(PLAN, trained=5)
    assert [str(s) for s in promising(found, plan, (32, 32), 10)] == ["16-s32", "16-s16"]
    with pytest.raises(EdgecifarError, match="none of 4 shapes is within the limits"):
        promising(found, dataclasses.replace(plan, limits=Limits(1, 1.0, True)), (32, 32), 10)


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def test_a_shape_is_trained_once_however_often_it_is_queued(storage):
    first, second = (Trials(storage, "study", {"seed": 0}) for _ in range(2))
    shape = parse("16-s32r-relu6")
    first.note_cost(shape, cost(100, 0.5))
    for trials in (first, second):
        trials.queue(shape, {"macs": 7})
    trial, taken = second.take()
    assert taken == shape
    assert first.take() is None
    second.finish(trial, 91.5, 0.5)
    first.queue(shape, {"macs": 7})
    assert first.take() is None
    (result,) = first.results()
    assert (result.shape, result.top1, result.cost.ratio) == (shape, 91.5, 0.5)
    assert result.on_front


def test_the_front_leaves_out_what_is_slower_and_worse(storage):
    trials = Trials(storage, "study", {})
    for text, top1, ratio in (("16", 80.0, 0.5), ("32", 90.0, 1.0), ("48", 85.0, 1.5)):
        trials.note_cost(parse(text), cost(1, ratio))
        trials.queue(parse(text), {"macs": int(text)})
        trial, _ = trials.take()
        trials.finish(trial, top1, ratio)
    assert [(str(t.shape), t.on_front) for t in trials.results()] == [
        ("32", True),
        ("48", False),
        ("16", True),
    ]


def test_what_a_killed_process_took_is_trained_by_the_next(storage):
    code = (
        "import os, signal\n"
        "from edgecifar.benchmarks.search.study import Trials\n"
        f"Trials({storage!r}, 'study', {{}}).take()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    trials, shape = Trials(storage, "study", {}), parse("16-s32")
    trials.queue(shape, {"macs": 1})
    subprocess.run([sys.executable, "-c", code], check=False)
    assert trials.take() is None
    trials.give_back_abandoned()
    trials.queue(shape, {"macs": 1})
    trial, taken = trials.take()
    assert taken == shape
    trial.set_user_attr("worker", [socket.gethostname(), os.getppid()])
    trials.give_back_abandoned()  # that process lives
    trials.queue(shape, {"macs": 1})
    assert trials.take() is None


def test_another_search_needs_another_folder(storage):
    Trials(storage, "study", {"seed": 0})
    with pytest.raises(EdgecifarError, match="begun with seed 0, not 1: choose another --out"):
        Trials(storage, "study", {"seed": 1})


def test_a_storage_that_cannot_be_opened(tmp_path):
    with pytest.raises(EdgecifarError, match=r"the storage .* can't be opened"):
        Trials(f"sqlite:///{tmp_path / 'no' / 'folder' / 'study.db'}", "study", {})


@pytest.fixture(scope="module")
def searched(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("search")
    return out, search(PLAN, digits, out)


def test_the_best_of_what_was_measured_is_trained(searched):
    _, (found,) = searched
    assert found.cost.meets(LIMITS)
    assert found.on_front
    assert 0 < found.top1 <= 100


def test_a_second_call_measures_and_trains_nothing_again(digits, searched, monkeypatch):
    out, found = searched
    monkeypatch.setattr(Stopwatch, "measure", None)
    assert search(PLAN, digits, out) == found


def test_the_front_is_shown(searched, tmp_path, capsys):
    _, found = searched
    print_trials(found)
    shown = capsys.readouterr().out
    assert str(found[0].shape) in shown
    paths = draw_front(found, LIMITS, tmp_path)
    assert [path.name for path in paths] == ["front.svg", "front.png"]
    assert str(found[0].shape) in paths[0].read_text()
