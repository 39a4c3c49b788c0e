import dataclasses
import math
import os
import re
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import optuna
import pytest

from edgecifar.benchmarks.search import search as module
from edgecifar.benchmarks.search.cost import Cost, Stopwatch
from edgecifar.benchmarks.search.front import draw_front, front_of, print_trials
from edgecifar.benchmarks.search.search import Plan, promising, search
from edgecifar.benchmarks.search.space import (
    FINE_TUNED_BYTES,
    Limits,
    draw_shapes,
    estimated_bytes,
    parse_latency,
)
from edgecifar.benchmarks.search.trials import Trial, Trials, home_of
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.checkpoint import DivergedError
from edgecifar.train.models import edgenet
from edgecifar.train.models.edgenet import parse
from edgecifar.train.run import RunDiffersError
from edgecifar.train.settings import Training

LIMITS = Limits(bytes=60_000, latency=2.0, relative=True)
TINY = Training(epochs=1, batch_size=64, learning_rate=0.05)
PLAN = Plan(LIMITS, shapes=2, trained=1, training=TINY)


def by_work(shape):
    """Latency as if a ResNet-8's worth of MACs took one."""
    return shape.macs((32, 32), 10) / 12.5e6


def test_drawn_shapes_are_near_the_limits():
    shapes = draw_shapes(50, LIMITS, (32, 32), 10, latency=by_work, seed=0)
    assert len(set(shapes)) == 50
    sizes = [estimated_bytes(shape, 10) + FINE_TUNED_BYTES for shape in shapes]
    assert all(size <= LIMITS.bytes for size in sizes), "or they would be measured for nothing"
    assert all(by_work(s) >= 1.4 or size >= 42_000 for s, size in zip(shapes, sizes, strict=True))
    assert all(s.stages[0].width <= s.stages[1].width <= s.stages[-1].width for s in shapes)
    assert shapes[:30] == draw_shapes(30, LIMITS, (32, 32), 10, latency=by_work, seed=0)


def test_all_that_is_free_is_drawn():
    """Each option, and strides elsewhere than at every stage after the stem."""
    shapes = draw_shapes(100, LIMITS, (32, 32), 10, latency=by_work, seed=0)
    for option in ("relu6", "branches", "whitened"):
        assert 10 <= sum(getattr(shape, option) for shape in shapes) <= 50, option
    strides = {tuple(stage.stride for stage in shape.stages) for shape in shapes}
    assert {(1, 2, 2), (1, 2, 2, 2), (2, 2, 2), (1, 1, 2), (1, 2, 1)} <= strides
    usual = [s for s in shapes if [x.stride for x in s.stages] == [1] + [2] * (len(s.stages) - 1)]
    assert len(usual) > 30, "shapes that are known to do well"


def limits_in(message):
    """Return the limits that a message ends with."""
    size, latency = re.search(r"about --max-bytes (\d+) --max-latency (\S+?)[:,]", message).groups()
    return Limits(int(size), *parse_latency(latency))


@pytest.mark.parametrize(
    "limits",
    [Limits(5, 1.0, True), Limits(60_000, 0.001, True), Limits(5, 0.01, False)],
    ids=["size", "latency", "both"],
)
def test_limits_that_nothing_meets_are_told_with_the_nearest(limits):
    def draw(limits):
        return draw_shapes(1, limits, (32, 32), 10, latency=by_work, seed=0)

    with pytest.raises(EdgecifarError, match=r"no shape for 32x32 images is within") as caught:
        draw(limits)
    assert str(limits) in str(caught.value)
    nearest = limits_in(str(caught.value))
    assert nearest.relative == limits.relative
    assert draw(nearest)
    for tighter in (
        dataclasses.replace(nearest, bytes=0.85 * nearest.bytes),
        dataclasses.replace(nearest, latency=0.7 * nearest.latency),
    ):
        if limits.bytes <= tighter.bytes and limits.latency <= tighter.latency:
            with pytest.raises(EdgecifarError, match="is within"):
                draw(tighter)


def test_limits_wider_than_all_shapes_are_told_with_what_there_is():
    def draw(limits):
        return draw_shapes(1, limits, (32, 32), 10, latency=by_work, seed=0)

    with pytest.raises(EdgecifarError, match="every shape for 32x32 images is far within") as told:
        draw(Limits(10**9, 1e6, True))
    assert draw(limits_in(str(told.value)))


@pytest.mark.parametrize("wrong", [(0, 1.0), (1, 0.0), (1, math.nan), (1, math.inf)])
def test_limits_are_finite_and_above_0(wrong):
    with pytest.raises(EdgecifarError, match="limits must be above 0"):
        Limits(*wrong, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250", (250, False)),
        ("250us", (250, False)),
        ("250 µs", (250, False)),
        ("5ms", (5000, False)),
        ("0.9x", (0.9, True)),
    ],
)
def test_latencies_are_microseconds_or_multiples(text, value):
    assert parse_latency(text) == value


@pytest.mark.parametrize("limits", [Limits(98_496, 0.9, True), Limits(5, 1234.5, False)])
def test_limits_read_as_they_are_typed(limits):
    size, latency = re.fullmatch(r"--max-bytes (\d+) --max-latency (\S+)", str(limits)).groups()
    assert Limits(int(size), *parse_latency(latency)) == limits


@pytest.mark.parametrize("text", ["fast", "x", "nan", "infx", "-3us", "3 hours"])
def test_what_is_no_latency(text):
    with pytest.raises(EdgecifarError, match=r"is no latency: write 250us or 5ms, or 0\.9x"):
        parse_latency(text)


@pytest.fixture(scope="module")
def costs():
    stopwatch = Stopwatch((32, 32), 10)
    shapes = ("16-s32r", "32p-s64rr-s96r", "s16-32r-relu6-rep-white", "s16-s16-s16")
    return {text: stopwatch.measure(parse(text)) for text in shapes}


def test_sizes_are_estimated_within_two_percent(costs):
    for text, cost in costs.items():
        assert estimated_bytes(parse(text), 10) == pytest.approx(cost.bytes, rel=0.02)


def test_six_times_the_work_takes_longer(costs):
    """As a ratio, of times taken in turns: those in microseconds vary with what else runs."""
    light, heavy, *_ = costs.values()
    assert light.ratio < heavy.ratio
    for each in (light, heavy):
        assert each.low <= each.ratio <= each.high
        assert each.latency_us > 0


def cost(size, ratio):
    return Cost(bytes=size, latency_us=100 * ratio, ratio=ratio, low=ratio, high=ratio)


def test_only_shapes_within_both_limits_are_promising():
    figures = {"16-s16": (9, 1), "16-s32": (9, 1), "16-s64": (9, 3), "16-s80": (99_999, 1)}
    found = {parse(text): cost(*pair) for text, pair in figures.items()}
    plan = dataclasses.replace(PLAN, trained=5)
    assert [str(s) for s in promising(found, plan, (32, 32), 10)] == ["16-s32", "16-s16"]
    with pytest.raises(EdgecifarError, match="none of 4 shapes is within") as told:
        promising(found, dataclasses.replace(plan, limits=Limits(1, 0.9, True)), (32, 32), 10)
    assert "or the limits to --max-bytes 1300 --max-latency 1x" in str(told.value)


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def test_a_shape_is_trained_once_however_often_it_is_queued(storage):
    first, second = (Trials(storage, "study") for _ in range(2))
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
    (result,) = first.results(LIMITS)
    assert (result.shape, result.top1, result.cost.ratio) == (shape, 91.5, 0.5)
    assert first.results(dataclasses.replace(LIMITS, latency=0.4)) == []


def test_a_shape_that_two_queue_at_once_is_trained_once(storage, monkeypatch):
    """Each of two machines looks before the other has put it there."""
    first, second = (Trials(storage, "study") for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "get_trials", lambda *_, **__: [])
        for trials in (first, second):
            trials.queue(parse("16-s32"), {"macs": 1})
    first.queue(parse("16-s48"), {"macs": 2})
    taken = [trials.take()[1] for trials in (first, second)]
    assert taken == [parse("16-s32"), parse("16-s48")]
    assert first.take() is second.take() is None


def ignore(text):
    """Take what is told of progress."""


class Watch:
    """Measures shapes as if work alone counted, and notes which."""

    image_size, classes, here, measured_on = (32, 32), 10, True, None

    def __init__(self, meanwhile=lambda shape: None):
        self.measured, self.meanwhile = [], meanwhile

    def measure(self, shape):
        self.measured.append(shape)
        self.meanwhile(shape)
        return cost(100, by_work(shape))


def test_a_device_that_has_changed_gives_no_more_costs(storage):
    """Its address may lead to another board by now, whose ratios are others."""
    trials, watch = Trials(storage, "study"), Watch()
    watch.measured_on = "Raspberry Pi 4, litert 2.3.0"
    shapes = [parse(text) for text in ("16-s32", "16-s48")]
    module._Watch(watch, trials).measure(shapes[0])
    watch.measured_on = "Raspberry Pi 5, litert 2.3.0"
    with pytest.raises(EdgecifarError, match=r"measured on Raspberry Pi 4, .* is Raspberry Pi 5, "):
        module._Watch(watch, Trials(storage, "study")).measure(shapes[1])
    assert list(trials.costs) == shapes[:1]


def test_machines_measure_no_more_than_is_asked(storage):
    """While the first shape is measured here, another machine measures the other three of four."""
    here, there = (Trials(storage, "study") for _ in range(2))
    drawn = draw_shapes(4, LIMITS, (32, 32), 10, latency=by_work, seed=0)

    def meanwhile(shape):
        for other in set(drawn) - {shape} if shape in drawn else ():
            there.note_cost(other, cost(100, 1.0))

    watch = Watch(meanwhile)
    module._measure(dataclasses.replace(PLAN, shapes=4), watch, here, ignore)
    assert len(watch.measured) == 2, "a probe and the first"
    assert set(drawn) <= set(here.costs)


def test_doubtful_times_are_told(storage, monkeypatch):
    clock, others = "the clock fell", "other programs kept the processor 60 % busy"
    doubts = [clock, others]
    monkeypatch.setattr(module.environment, "doubts", lambda *_: [clock])
    monkeypatch.setattr(module.environment, "crowding", lambda *_: [others])
    told = []
    module._measure(PLAN, Watch(), Trials(storage, "study"), told.append)
    for line, doubt in zip(told[-2:], doubts, strict=True):
        assert f"these latencies are doubtful: {doubt}" in line
    assert Trials(storage, "study").doubts == doubts  # the next search knows of it


def test_a_kill_leaves_no_cost_without_its_doubts(storage, monkeypatch):
    """And what has passed when the last shape is measured, such as throttling, stays told."""
    told = iter([[], ["throttled"], *[[]] * 99])

    def killed(shape):
        if len(watch.measured) == 3:
            raise KeyboardInterrupt

    watch = Watch(killed)
    with monkeypatch.context() as patch:
        patch.setattr(module.environment, "state", lambda: next(told))
        patch.setattr(module.environment, "doubts", lambda *states: [*chain(*states)])
        with pytest.raises(KeyboardInterrupt):
            module._measure(PLAN, watch, Trials(storage, "study"), ignore)
    trials = Trials(storage, "study")
    assert set(trials.costs) == set(watch.measured[:2])
    assert "throttled" in trials.doubts
    module._measure(PLAN, Watch(), trials, ignore)
    assert "throttled" in trials.doubts


def test_an_interval_that_stays_wide_is_a_doubt(storage, monkeypatch):
    wide = Cost(100, 50.0, 0.7, 0.5, 0.9)
    monkeypatch.setattr(Watch, "measure", lambda self, shape: wide)
    trials = Trials(storage, "study")
    module._measure(dataclasses.replace(PLAN, shapes=1), Watch(), trials, ignore)
    assert "the interval of 16-s32r-s48r is 0.50 to 0.90 times" in trials.doubts


def test_the_probe_takes_no_drawn_shape_s_place(digits, tmp_path, monkeypatch):
    probe = parse("16-s32r-s48r")
    monkeypatch.setattr(Stopwatch, "measure", lambda self, shape: cost(100, by_work(shape)))
    monkeypatch.setattr(module, "_train", lambda *_: 50.0)

    def searched(out, **changes):
        plan = dataclasses.replace(PLAN, shapes=4, trained=9, limits=LIMITS, **changes)
        trained = {trial.shape for trial in module.search(plan, digits, tmp_path / out)}
        told = results.read(tmp_path / out / "search.json", kind="search")["shapes"]
        return trained, {parse(row["shape"]) for row in told if row["also"]}

    drawn = {*draw_shapes(4, LIMITS, (32, 32), 10, latency=by_work, seed=PLAN.seed)}
    assert probe not in drawn
    assert searched("one") == (drawn, {probe})
    assert searched("two", also=(probe,)) == (drawn | {probe}, {probe})


def test_only_the_most_promising_are_trained(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Stopwatch, "measure", lambda self, shape: cost(100, by_work(shape)))
    monkeypatch.setattr(module, "_train", lambda *_: 50.0)
    plan = dataclasses.replace(PLAN, shapes=8, trained=3)
    drawn = draw_shapes(8, LIMITS, (32, 32), 10, latency=by_work, seed=PLAN.seed)
    costs = {shape: cost(100, by_work(shape)) for shape in drawn}
    trained = {trial.shape for trial in module.search(plan, digits, tmp_path)}
    assert trained == {*promising(costs, plan, (32, 32), 10)}


def test_other_limits_keep_what_is_measured(storage):
    watch, trials = Watch(), Trials(storage, "study")

    def measure_within(limits):
        plan = dataclasses.replace(PLAN, shapes=4, limits=limits)
        module._measure(plan, watch, trials, ignore)

    measure_within(PLAN.limits)
    first = watch.measured[:]
    with pytest.raises(EdgecifarError, match="no shape for"):
        measure_within(Limits(5, 0.1, True))
    measure_within(Limits(60_000, 200.0, False))
    assert watch.measured == first, "the same limits in another unit"
    measure_within(Limits(30_000, 1.0, True))
    assert len(watch.measured) == len(set(watch.measured)) > len(first)
    assert set(trials.costs) == set(watch.measured)


def test_machines_train_the_same_shapes(storage):
    """Though a cost that came late would have changed the choice."""
    first, second = (Trials(storage, "study") for _ in range(2))
    one, other = [parse("16-s32")], [parse("16-s48-white")]
    assert first.shortlist("1 from 2", lambda: one) == one
    assert second.shortlist("1 from 2", lambda: other) == one
    assert second.shortlist("1 from 3", lambda: other) == other


def test_the_front_leaves_out_what_is_slower_and_worse():
    figures = (("32", 90.0, 1.0), ("48", 85.0, 1.5), ("64", 90.0, 1.2), ("16", 80.0, 0.5))
    trials = [Trial(parse(text), top1, cost(1, ratio)) for text, top1, ratio in figures]
    assert [str(trial.shape) for trial in front_of(trials, LIMITS)] == ["16", "32"]


def test_what_other_limits_had_queued_is_trained_under_those_alone(storage):
    trials = Trials(storage, "study")
    wide, narrow = parse("32-s64"), parse("16-s32")
    for shape in (wide, narrow):
        trials.queue(shape, {"macs": 1})
    assert trials.take([narrow])[1] == narrow
    assert trials.take([narrow]) is None
    trials.queue(wide, {"macs": 1})
    assert trials.take([wide])[1] == wide


def test_machines_that_share_a_storage_train_for_each_other(storage):
    trials = Trials(storage, "study", shared=True)
    trials.queue(parse("32-s64"), {"macs": 1})
    assert trials.take([parse("16-s32")])[1] == parse("32-s64")


def test_what_a_killed_process_took_is_trained_by_the_next(storage):
    code = (
        "import os, signal\n"
        "from edgecifar.benchmarks.search.trials import Trials\n"
        f"Trials({storage!r}, 'study').take()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    trials, shape = Trials(storage, "study"), parse("16-s32")
    trials.queue(shape, {"macs": 1})
    subprocess.run([sys.executable, "-c", code], check=False)
    assert trials.take() is None
    trials.give_back_abandoned()
    trials.queue(shape, {"macs": 1})
    trial, taken = trials.take()
    assert taken == shape
    trial.set_user_attr("worker", [socket.gethostname(), os.getppid(), ""])
    trials.give_back_abandoned()  # that process lives
    trials.queue(shape, {"macs": 1})
    assert trials.take() is None
    assert trials.elsewhere() == [f"16-s32 ({socket.gethostname()}, process {os.getppid()})"]
    trials.give_back_abandoned(others=True)
    assert len(trials.elsewhere()) == 1
    trial.set_user_attr("worker", [socket.gethostname(), os.getppid(), "", "another start"])
    trials.give_back_abandoned()  # it does so under a dead one's number
    trials.queue(shape, {"macs": 1})
    assert trials.take()[1] == shape


@pytest.mark.parametrize("shared", [True, False])
def test_another_host_s_work_is_its_own_where_hosts_share(storage, shared):
    """Where they don't it was this one's, before its container was made anew."""
    trials, shape = Trials(storage, "study", shared=shared), parse("16-s32")
    trials.queue(shape, {"macs": 1})
    trial, _ = trials.take()
    trial.set_user_attr("worker", ["elsewhere", 7, ""])
    trials.give_back_abandoned()
    trials.queue(shape, {"macs": 1})
    assert trials.elsewhere() == (["16-s32 (elsewhere, process 7)"] if shared else [])
    assert (trials.take() is None) == shared


def test_hosts_of_one_name_are_told_apart(storage, tmp_path):
    """Where the process number of the one is dead on the other, it isn't so for the one."""
    shape, homes = parse("16-s32"), [tmp_path / "one", tmp_path / "two"]
    for folder in homes:
        folder.mkdir()
    one, two = (Trials(storage, "study", shared=True, home=home_of(path)) for path in homes)
    one.queue(shape, {"macs": 1})
    trial, _ = one.take()
    trial.set_user_attr("worker", [socket.gethostname(), 2**22 + 1, home_of(homes[0])])
    two.give_back_abandoned()
    assert len(two.elsewhere()) == 1
    one.give_back_abandoned()
    assert two.elsewhere() == []


def test_what_a_machine_has_just_taken_is_not_abandoned(storage):
    """Between asking for a trial and noting who asked, it is nobody's."""
    trials = Trials(storage, "study", shared=True)
    trials.queue(parse("16-s32"), {"macs": 1})
    trials._study.ask()
    trials.give_back_abandoned()
    assert trials.elsewhere() == ["16-s32 (an unknown host, process 0)"]


def test_what_a_lost_machine_had_begun_can_be_taken_over(storage):
    trials, shape = Trials(storage, "study", shared=True), parse("16-s32")
    trials.queue(shape, {"macs": 1})
    lost, _ = trials.take()
    lost.set_user_attr("worker", ["elsewhere", 7, "another"])
    trials.give_back_abandoned(others=True)
    trials.queue(shape, {"macs": 1})
    trial, taken = trials.take()
    assert taken == shape
    trials.finish(lost, 10.0, 1.0)  # it wasn't lost after all
    trials.finish(trial, 70.0, 1.0)
    trials.note_cost(shape, Cost(9000, 10.0, 1.0, 1.0, 1.0))
    assert [each.top1 for each in trials.results(Limits(20_000, 2.0, True))] == [70.0]


@pytest.fixture
def train_fails(monkeypatch):
    """A function of an error, with which every training ends; `mended` lets them be again."""
    monkeypatch.setattr(Stopwatch, "measure", lambda self, shape: cost(100, 0.1))
    trained = module._train

    def fail(error):
        def train(*_):
            raise error

        monkeypatch.setattr(module, "_train", train)

    fail.mended = lambda: monkeypatch.setattr(module, "_train", trained)
    return fail


def test_a_shape_that_cannot_be_trained_is_left_out_for_good(digits, tmp_path, train_fails):
    train_fails(DivergedError("the loss is no longer finite"))
    told = []
    with pytest.raises(EdgecifarError, match="none could be"):
        search(PLAN, digits, tmp_path, on_progress=told.append)
    assert "is left out: the loss is no longer finite" in told[-1]
    train_fails.mended()
    with pytest.raises(EdgecifarError, match="none could be"):  # it isn't tried again
        search(PLAN, digits, tmp_path, on_progress=told.append)
    assert told[-1] in told[:-1]  # but named again


def test_a_shape_is_not_left_out_for_what_may_be_mended(digits, tmp_path, train_fails):
    train_fails(EdgecifarError("no checkpoint can be written: free some space, and run it again"))
    with pytest.raises(EdgecifarError, match="free some space"):
        search(PLAN, digits, tmp_path)
    train_fails.mended()
    assert len(search(PLAN, digits, tmp_path)) == 1


def test_too_few_images_are_found_before_anything_is_measured(digits, tmp_path):
    plan = dataclasses.replace(PLAN, training=dataclasses.replace(TINY, batch_size=100_000))
    with pytest.raises(EdgecifarError, match="don't fill a batch of 100000: set batch_size to"):
        search(plan, digits, tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_another_search_needs_another_folder(storage):
    begun = Trials(storage, "study", training={"--seed": 0, "--set ema": 0.5})
    Trials(storage, "study", training={"--seed": 1, "--set ema": 0.5})  # nothing is queued yet
    begun.shortlist("1 from 2", lambda: [])
    for shared, option in ((False, "--out"), (True, "--storage")):
        told = f"begun with --seed 0, not 1: choose another {option}"
        with pytest.raises(EdgecifarError, match=told):
            Trials(storage, "study", training={"--seed": 1, "--set ema": 0.5}, shared=shared)
    with pytest.raises(EdgecifarError, match=r"begun with --set ema=0\.5, not 0\.9: choose"):
        Trials(storage, "study", training={"--seed": 0, "--set ema": 0.9})


def test_two_that_begin_at_once_do_not_mix_their_costs(storage):
    first, second = (Trials(storage, "study", measuring={"machine": name}) for name in "ab")
    second.note_cost(parse("16"), cost(1, 1))
    with pytest.raises(EdgecifarError, match="begun with machine b, not a"):
        first.note_cost(parse("32"), cost(1, 1))
    first = Trials(storage, "study", measuring={"machine": "b"})
    first.note_cost(parse("16"), cost(2, 2))
    assert first.costs == {parse("16"): cost(1, 1)}, "the first measurement stays"


def test_two_that_begin_at_once_do_not_mix_their_accuracies(storage):
    first, second = (Trials(storage, "study", training={"--epochs": n}) for n in (1, 2))
    first.shortlist("1 from 2", lambda: [parse("16-s32")])
    with pytest.raises(EdgecifarError, match=r"begun with --epochs 1, not 2"):
        second.shortlist("1 from 2", lambda: [parse("16-s48")])


def test_settings_are_told_as_they_are_typed(digits):
    settings = PLAN.accuracy_settings(digits)
    assert settings["--epochs"] == 1
    assert settings["--set augment.flip"] == "random"
    assert not any(isinstance(value, dict) for value in settings.values())


class _SettledError(Exception):
    """Raised once a search has kept a cost in its folder."""


@pytest.fixture
def settle(digits, tmp_path, monkeypatch):
    """Begin a search, or take it up, but for all its work after the first cost."""

    def stop(plan, stopwatch, trials, on_progress):
        trials.note_cost(parse("16-s32"), cost(1, 1))
        raise _SettledError

    monkeypatch.setattr(module, "Stopwatch", lambda *_: None)
    monkeypatch.setattr(module, "_measure", stop)

    def begin(plan=PLAN, **options):
        with pytest.raises(_SettledError):
            search(plan, digits, tmp_path, **options)

    return begin


def test_costs_serve_other_limits_and_settings_until_some_shape_is_queued(settle):
    settle()
    settle(dataclasses.replace(PLAN, limits=Limits(5, 10.0, False), seed=3))


def test_a_reference_is_known_by_its_content(settle, tmp_path):
    from edgecifar.compress.tflite import to_tflite

    noise = np.zeros((1, 32, 32, 3), np.uint8)
    payloads = [
        to_tflite(edgenet.build(parse(text), (32, 32), 10), "int8", noise) for text in ("8", "16")
    ]
    reference, copy = tmp_path / "reference.tflite", tmp_path / "copy.tflite"
    for path in (reference, copy):
        path.write_bytes(payloads[0])
        settle(reference=path)
    reference.write_bytes(payloads[1])
    with pytest.raises(EdgecifarError, match=r"begun with --reference \w{12}, not \w{12}: choose"):
        settle(reference=reference)


def test_a_reference_is_a_tflite_file(digits, tmp_path):
    from onnx import helper, save

    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    path = tmp_path / "reference.onnx"
    save(helper.make_model(helper.make_graph([node], "graph", [x], [y])), path)
    with pytest.raises(
        EdgecifarError, match=r"reference\.onnx is no TFLite file: give --reference"
    ):
        search(PLAN, digits, tmp_path / "search", reference=path)
    assert not (tmp_path / "search").exists()


def test_a_reference_takes_int8(digits, tmp_path):
    from edgecifar.compress.tflite import to_tflite

    path = tmp_path / "reference.tflite"
    model = edgenet.build(parse("8"), (32, 32), 10)
    path.write_bytes(to_tflite(model, "float32", np.zeros((1, 32, 32, 3), np.uint8)))
    with pytest.raises(EdgecifarError, match=r"reference\.tflite takes float32: give --reference"):
        search(PLAN, digits, tmp_path / "search", reference=path)


def test_a_reference_can_be_a_model_that_ships(settle):
    settle(reference=Path("nano"))
    with pytest.raises(EdgecifarError, match="begun with --reference"):
        settle(reference=Path("resnet8"))
    with pytest.raises(EdgecifarError, match=r"nanu"):
        settle(reference=Path("nanu"))


def test_latencies_of_two_interpreters_are_not_mixed(settle, monkeypatch):
    settle()
    monkeypatch.setattr(module, "interpreter_of", lambda device: "litert 9")
    with pytest.raises(EdgecifarError, match=r"begun with interpreter litert .*, not litert 9"):
        settle()


def test_latencies_of_two_machines_are_not_mixed(settle, monkeypatch):
    monkeypatch.setattr("edgecifar.runtime.environment.cpu_model", lambda: "A-72")
    monkeypatch.setattr("edgecifar.runtime.environment.cpu_features", lambda: ["fp16", "neon"])
    settle()
    monkeypatch.setattr("edgecifar.runtime.environment.cpu_model", lambda: "A-76")
    with pytest.raises(EdgecifarError) as caught:
        settle()
    assert str(caught.value) == (
        "this search was begun with machine A-72 (fp16, neon), not A-76 (fp16, neon): choose "
        "another --out"
    )
    with pytest.raises(EdgecifarError, match=r"machine A-72 .*, not ssh://pi@kitchen: choose"):
        settle(device="ssh://pi@kitchen")


def test_a_storage_that_cannot_be_opened(tmp_path):
    with pytest.raises(EdgecifarError, match=r"the storage .* can't be opened"):
        Trials(f"sqlite:///{tmp_path / 'no' / 'folder' / 'study.db'}", "study")


@pytest.fixture(scope="module")
def searched(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("search")
    return out, search(PLAN, digits, out)


def test_the_best_of_what_was_measured_is_trained(searched):
    out, (found,) = searched
    rows = results.read(out / "search.json", kind="search")["shapes"]
    assert [parse(row["shape"]) for row in rows if row["accuracy"]] == [found.shape]
    assert found.cost.meets(LIMITS)
    assert 0 < found.top1 <= 100


def test_a_second_call_measures_and_trains_nothing_again(digits, searched, monkeypatch):
    out, found = searched
    monkeypatch.setattr(Stopwatch, "measure", None)
    monkeypatch.setattr("edgecifar.compress.latency.Int8Race", None)
    assert search(PLAN, digits, out) == found


def test_shapes_of_one_s_own_are_trained_beside_those_drawn(digits, tmp_path, monkeypatch):
    own, large = parse("16-256-s256"), parse("16-256-256")  # both would be the most promising
    watch, told = Watch(), []
    monkeypatch.setattr(module, "Stopwatch", lambda *_: watch)
    monkeypatch.setattr(module, "_train", lambda *_: 50.0)
    watch.image_size, watch.here = digits.image_size, False  # nothing is timed: nothing to doubt
    watch.measure = lambda shape: cost(100 if shape != large else 70_000, 1.0)
    search(dataclasses.replace(PLAN, also=(own, large)), digits, tmp_path, on_progress=told.append)
    assert f"{large} isn't trained: it needs --max-bytes 72000 --max-latency 2x" in told
    result = results.read(tmp_path / "search.json", kind="search")
    shapes = {row["shape"]: row for row in result["shapes"]}
    by_hand = {str(own), str(large), "16-s32r-s48r"}  # the last to learn how fast a device is
    assert {text for text, row in shapes.items() if row["also"]} == by_hand
    trained = [text for text, row in shapes.items() if row["accuracy"]]
    assert str(own) in trained
    assert str(large) not in trained
    assert len(trained) == PLAN.trained + 1
    n = result["data"]["validation"]
    assert n == len(digits.validation)
    assert shapes[str(own)]["accuracy"]["low"] < 100 * round(n / 2) / n < 51
    assert shapes[str(own)]["macs"] == own.macs(digits.image_size, 10)
    assert result["limits"] == dataclasses.asdict(LIMITS)
    assert result["settings"]["--epochs"] == TINY.epochs
    assert result["reference"] == "resnet8"
    assert result["valid"]


def test_a_result_keeps_what_other_limits_had_trained(digits, tmp_path, monkeypatch):
    watch, small = Watch(), Limits(50_000, 2.0, True)
    monkeypatch.setattr(module, "Stopwatch", lambda *_: watch)
    monkeypatch.setattr(module, "_train", lambda *_: 50.0)
    watch.image_size = digits.image_size
    watch.measure = lambda shape: cost(55_000 if shape.parameters(10) > 30_000 else 100, 1.0)
    for limits in (LIMITS, small):
        plan = dataclasses.replace(PLAN, shapes=8, limits=limits)
        found = search(plan, digits, tmp_path)
    assert [trial.cost.bytes for trial in found] == [100]
    result = results.read(tmp_path / "search.json", kind="search")
    sizes = [row["cost"]["bytes"] for row in result["shapes"] if row["accuracy"]]
    assert sorted(sizes) == [100, 55_000]


def test_what_is_trained_is_shown_only_within_the_limits(digits, searched, monkeypatch):
    out, (found,) = searched
    wider = dataclasses.replace(LIMITS, latency=LIMITS.latency + 1e-6)
    monkeypatch.setattr(module, "_measure", lambda *_: [])
    monkeypatch.setattr(module, "_train", None)
    assert search(dataclasses.replace(PLAN, limits=wider), digits, out) == [found]
    narrow = Limits(found.cost.bytes, LIMITS.latency, True)
    with pytest.raises(EdgecifarError, match=r"none of \d shapes is within|no shape is trained"):
        search(dataclasses.replace(PLAN, limits=narrow), digits, out)


def test_a_run_of_other_settings_is_not_taken(digits, searched):
    out, (found,) = searched
    folder = out / "runs" / f"edge-{found.shape}"
    assert module._train(found.shape, digits, PLAN, folder) == found.top1
    longer = dataclasses.replace(PLAN, training=dataclasses.replace(TINY, epochs=2))
    with pytest.raises(RunDiffersError, match=r"begun with recipe\.epochs 1, not 2"):
        module._train(found.shape, digits, longer, folder)


def test_the_front_is_shown(searched, tmp_path, capsys):
    _, found = searched
    print_trials(found, LIMITS)
    shown = capsys.readouterr().out
    assert str(found[0].shape) in shown
    paths = draw_front(found, LIMITS, tmp_path)
    assert [path.name for path in paths] == ["front.svg", "front.png"]
    assert str(found[0].shape) in paths[0].read_text()
