"""Measure whether the input pipeline keeps up with training.

    python -m edgecifar.benchmarks.checks.input_pipeline

Compares images a second of one and the same training step, fed by the pipeline or with one
constant batch, in interleaved rounds.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import click

from edgecifar.benchmarks.program import Program
from edgecifar.train.data.options import data_options
from edgecifar.train.settings import Augmentation, Training

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

LIMIT = 0.9  # of the images a second that one constant batch reaches
SETTINGS = {
    "flip and crop": Augmentation(),
    "everything": Augmentation(crop=4, shift=0.1, rotation=15, cutout=8, cutmix=0.5),
}


@dataclass(frozen=True)
class Throughput:
    """Images a second, medians over the rounds, and the median of the rounds' ratios."""

    constant: float
    pipeline: float
    ratio: float


def measure(
    dataset: "Dataset",
    augment: Augmentation,
    *,
    architecture: str = "resnet8",
    rounds: int = 7,
    steps: int = 20,
) -> Throughput:
    """Time `rounds` rounds of `steps` training steps fed each way, after a warm-up round."""
    import tensorflow as tf

    from edgecifar.train import models
    from edgecifar.train.loop import compile_for
    from edgecifar.train.pipeline import steps_per_epoch, training_batches
    from edgecifar.train.session import seeded_build

    settings = Training(augment=augment)
    model = seeded_build(models.find(architecture), dataset, seed=0)
    compile_for(model, settings, steps=steps_per_epoch(dataset.train, settings))
    batches = training_batches(dataset.train, len(dataset.classes), settings, seed=0)
    constant = tf.data.Dataset.from_tensors(next(iter(batches))).repeat()
    step = model.make_train_function()
    feeds = {"constant": iter(constant), "pipeline": iter(batches)}
    seconds = {name: [] for name in feeds}
    for number in count():
        for name, feed in feeds.items():
            taken = _time_steps(step, feed, steps)
            if number:  # the first round warms up
                seconds[name].append(taken)
        if number == rounds:
            break
    images = steps * settings.batch_size
    pairs = zip(seconds["constant"], seconds["pipeline"], strict=True)
    return Throughput(
        constant=images / statistics.median(seconds["constant"]),
        pipeline=images / statistics.median(seconds["pipeline"]),
        ratio=statistics.median(without / with_ for without, with_ in pairs),
    )


def _time_steps(step: Callable, feed: Iterator, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        logs = step(feed)
    float(logs["loss"])  # waits for the last step
    return time.perf_counter() - start


@click.command(cls=Program)
@click.option("--architecture", default="resnet8", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@data_options
def main(architecture: str, rounds: int, **source) -> None:
    """Print images a second with and without the input pipeline; exit status 1 below its limit."""
    from edgecifar.train.data import load

    dataset, slow = load(**source), False
    for name, augment in SETTINGS.items():
        found = measure(dataset, augment, architecture=architecture, rounds=rounds)
        click.echo(
            f"{architecture}, {name}: {found.pipeline:.0f} images/s with the pipeline, "
            f"{found.constant:.0f} with one constant batch: {100 * found.ratio:.1f} %, "
            f"at least {100 * LIMIT:.0f} % asked"
        )
        slow |= found.ratio < LIMIT
    sys.exit(slow)


if __name__ == "__main__":
    main()
