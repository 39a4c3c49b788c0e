"""The search: measure many shapes, train the most promising shortly."""

import dataclasses
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks.devices.local import LocalDevice
from edgecifar.benchmarks.search.cost import Cost, Stopwatch
from edgecifar.benchmarks.search.remote import interpreter_of, machine_of
from edgecifar.benchmarks.search.result import FILE, result_of
from edgecifar.benchmarks.search.space import FINE_TUNED_BYTES, Limits, draw_shapes
from edgecifar.benchmarks.search.trials import Trial, Trials, home_of
from edgecifar.runtime import environment, modelfile, results, shipped
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file
from edgecifar.train.checkpoint import DivergedError
from edgecifar.train.models.edgenet import PREFIX, Shape, parse
from edgecifar.train.parsing import flat
from edgecifar.train.progress import Report, ignore
from edgecifar.train.run import RunFinishedError
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

# Its latency tells how fast the device is at MACs, before shapes are drawn.
_PROBE = parse("16-s32r-s48r")
SHORT = Training(epochs=12, ema=0.99)


@dataclass(frozen=True)
class Plan:
    """How far to search: shapes to measure, and how many of those to train.

    Beside those that are drawn, `also` are measured, and trained if they are within the limits.
    """

    limits: Limits
    shapes: int = 40
    trained: int = 8
    training: Training = SHORT
    seed: int = 0
    also: tuple[Shape, ...] = ()

    def __post_init__(self) -> None:
        if min(self.shapes, self.trained) < 1:
            raise EdgecifarError("nothing to search: --shapes and --train must be 1 or more")

    def accuracy_settings(self, dataset: "Dataset") -> dict[str, Any]:
        """Return what makes accuracies of two searches comparable, as it is typed."""
        own = {"--data": dataset.fingerprint, "--seed": self.seed}
        return own | {
            "--epochs" if key == "epochs" else f"--set {key}": value
            for key, value in flat(dataclasses.asdict(self.training))
        }


def search(
    plan: Plan,
    dataset: "Dataset",
    out: Path,
    *,
    reference: Path | None = None,
    device: str = LocalDevice.name,
    storage: str | None = None,
    take_over: bool = False,
    on_progress: Report = ignore,
) -> list[Trial]:
    """Search within `plan.limits`; returns what was trained, the most accurate first.

    Goes on where an earlier call with the same plan was killed, and keeps what was measured for
    other limits. The whole result is written as `search.json` in `out`. `reference` is an int8
    TFLite file or the name of a model that ships, by default an untrained ResNet-8. `device` is
    where latencies are measured. `storage` is a database URL as Optuna takes them, by default a
    file in `out`; machines that share one share the work, and the front appears when all is done.
    They must be alike, or measure on the same `device`. With `take_over` what others have begun is
    taken for abandoned and trained here.
    """
    from edgecifar.train.loop import require_batches

    require_batches(dataset, plan.training)
    size, classes = dataset.image_size, len(dataset.classes)
    reference = reference and shipped.locate(reference)
    measuring = {
        "--image-size": f"{size[0]}x{size[1]}",
        "classes": classes,
        "--reference": _known_by(reference) if reference else "resnet8",
        "machine": machine_of(device),
        "interpreter": interpreter_of(device),
    }
    out.mkdir(parents=True, exist_ok=True)
    trials = Trials(
        storage or f"sqlite:///{(out / 'study.db').resolve()}",
        "edgecifar-search",
        measuring=measuring,
        training=plan.accuracy_settings(dataset),
        shared=storage is not None,
        home=home_of(out),
    )
    drawn = _measure(plan, Stopwatch(size, classes, reference, device), trials, on_progress)
    trials.give_back_abandoned(others=take_over)
    # They take no drawn one's place.
    by_hand = {*plan.also} | ({_PROBE} - {*drawn})
    costs = {shape: cost for shape, cost in trials.costs.items() if shape not in by_hand}
    chosen = trials.shortlist(
        f"{plan.trained} from {plan.shapes} within {plan.limits}",
        lambda: promising(costs, plan, size, classes),
    )
    chosen += _of_your_own(plan, trials, on_progress)
    for shape in chosen:
        if why := trials.given_up(shape):
            on_progress(_left_out(shape, why))
        else:
            trials.queue(shape, _figures(shape, dataset))
    while taken := trials.take(chosen):
        trial, shape = taken
        on_progress(f"training {shape} for {plan.training.epochs} epochs")
        try:
            top1 = _train(shape, dataset, plan, out / "runs" / f"{PREFIX}{shape}")
        except DivergedError as error:
            trials.give_up(trial, str(error))
            on_progress(_left_out(shape, error))
            continue
        trials.finish(trial, top1, trials.costs[shape].ratio)
    if elsewhere := trials.elsewhere():
        on_progress(
            f"not among these, since others train them: {', '.join(elsewhere)}; if those are gone, "
            "--take-over trains them here"
        )
    if not (found := trials.results(plan.limits)):
        raise EdgecifarError("no shape is trained yet, or none could be: see the lines above")
    name = reference.name if reference else "resnet8"
    result = result_of(trials, dataset, plan.limits, reference=name, also=by_hand)
    replace_file(out / FILE, results.as_bytes(result))
    return found


def _left_out(shape: Shape, why: object) -> str:
    return f"{shape} is left out: {why}"


def promising(
    costs: dict[Shape, Cost], plan: Plan, image_size: tuple[int, int], classes: int
) -> list[Shape]:
    """Return the shapes within the limits that should learn most, best first.

    Of two networks of one family the one with more parameters and more work is usually the more
    accurate; which of both counts for more isn't known, so their ranks are added.
    """
    # Of equals always the same ones, whichever was measured first.
    feasible = sorted((shape for shape, cost in costs.items() if cost.meets(plan.limits)), key=str)
    if not feasible:
        needs = [
            (cost.bytes + FINE_TUNED_BYTES, cost.latency(plan.limits)) for cost in costs.values()
        ]
        nearest = plan.limits.raised_to(*min(needs, key=lambda need: plan.limits.uses(*need)))
        raise EdgecifarError(
            f"none of {len(costs)} shapes is within {plan.limits}: raise --shapes, or the limits "
            f"to {nearest}"
        )
    by_size = sorted(feasible, key=lambda shape: shape.parameters(classes))
    by_work = sorted(feasible, key=lambda shape: shape.macs(image_size, classes))
    ranks = {shape: by_size.index(shape) + by_work.index(shape) for shape in feasible}
    return sorted(feasible, key=lambda shape: -ranks[shape])[: plan.trained]


def _of_your_own(plan: Plan, trials: Trials, on_progress: Report) -> list[Shape]:
    """Return what the plan names beside the drawn shapes, but for what is beyond the limits."""
    within = []
    for shape in dict.fromkeys(plan.also):
        cost = trials.costs[shape]
        if cost.meets(plan.limits):
            within.append(shape)
        else:
            needs = plan.limits.raised_to(cost.bytes + FINE_TUNED_BYTES, cost.latency(plan.limits))
            on_progress(f"{shape} isn't trained: it needs {needs}")
    return within


def _measure(
    plan: Plan, stopwatch: Stopwatch, trials: Trials, on_progress: Report
) -> Sequence[Shape]:
    """Measure one shape after the other until all that are drawn are, here or elsewhere.

    Returns those that are drawn.
    """
    from edgecifar.train.progress import progress

    size, classes = stopwatch.image_size, stopwatch.classes
    watch = _Watch(stopwatch, trials)
    if _PROBE not in trials.costs:
        watch.measure(_PROBE)
    each = trials.costs[_PROBE].latency(plan.limits) / _PROBE.macs(size, classes)
    drawn = draw_shapes(
        plan.shapes,
        plan.limits,
        size,
        classes,
        latency=lambda shape: each * shape.macs(size, classes),
        seed=plan.seed,
    )
    known = trials.costs
    fresh = [shape for shape in dict.fromkeys((*plan.also, *drawn)) if shape not in known]
    if fresh:
        on_progress(f"measuring {len(fresh)} shapes with random weights")
        with progress() as bar:
            # Machines that draw the same shapes begin with different ones.
            for shape in bar.track(random.sample(fresh, len(fresh)), description="measuring"):
                if shape not in trials.costs:
                    watch.measure(shape)
    for doubt in watch.doubts:
        on_progress(
            f"these latencies are doubtful: {doubt}; measure on a quiet machine into another --out"
        )
    return drawn


class _Watch:
    """Measures shapes, and keeps with each what has made the times of this session doubtful.

    So a kill leaves no cost without its doubts, and throttling that has passed isn't forgotten.
    """

    def __init__(self, stopwatch: Stopwatch, trials: Trials):
        self.doubts: list[str] = []
        self._stopwatch, self._trials = stopwatch, trials
        self._session = uuid.uuid4().hex[:8]
        self._states, self._usage = [environment.state()], environment.usage()
        self._wide: list[str] = []

    def measure(self, shape: Shape) -> None:
        cost = self._stopwatch.measure(shape)
        if device := self._stopwatch.measured_on:
            self._trials.require_device(device)
        if cost.is_wide:
            self._wide.append(f"the interval of {shape} is {cost.low:.2f} to {cost.high:.2f} times")
        doubts = []
        if self._stopwatch.here:  # another device tells its own, and stops the search
            self._states.append(environment.state())
            others = self._usage.others(environment.usage())
            doubts = environment.doubts(*self._states) + environment.crowding(others)
        self.doubts = [*doubts, *self._wide]
        self._trials.note_doubts(self._session, self.doubts)
        self._trials.note_cost(shape, cost)


def _known_by(reference: Path) -> str:
    """Return the SHA-256 of a TFLite file that takes int8; EdgecifarError if it is none."""
    from edgecifar.compress.bare import open_bare

    found = modelfile.read(reference)
    if found.kind != "tflite":
        raise EdgecifarError(f"{reference} is no TFLite file: give --reference an int8 .tflite")
    if (taken := open_bare(found.payload).input.dtype) != np.int8:
        raise EdgecifarError(f"{reference} takes {taken}: give --reference an int8 .tflite")
    return found.sha256


def _figures(shape: Shape, dataset: "Dataset") -> dict[str, int]:
    classes = len(dataset.classes)
    return {
        "parameters": shape.parameters(classes),
        "macs": shape.macs(dataset.image_size, classes),
        "convolutions": len(list(shape.convolutions())),
    }


def _train(shape: Shape, dataset: "Dataset", plan: Plan, out: Path) -> float:
    """Return the top-1 on validation images, in percent."""
    from edgecifar.train.session import train

    try:
        run = train(f"{PREFIX}{shape}", dataset, plan.training, out, seed=plan.seed)
    except RunFinishedError as there:
        run = there.run
    return run.metrics["validation"]["top1"]
