from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.search import search as module
from edgecifar.benchmarks.search.cost import Cost
from edgecifar.benchmarks.search.trials import Trial
from edgecifar.runtime.commands import main
from edgecifar.train.models import edgenet
from edgecifar.train.models.edgenet import parse


class _StoppedError(Exception):
    """Raised where the search would begin."""


@dataclass
class Told:
    """What a command came to, and what it said."""

    plan: module.Plan
    stderr: str


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Return what a search of the digits would be told, given options."""
    plans = []

    def begin(plan, *_, **__):
        plans.append(plan)
        raise _StoppedError

    monkeypatch.setattr(module, "search", begin)
    limits = ["--max-latency=1x", "--max-bytes=60000"]

    def asked(*options):
        arguments = ["search", *limits, "--data=digits", f"--out={tmp_path}", *options]
        result = CliRunner().invoke(main, arguments)
        return Told(plans[-1], result.stderr)

    return asked


def test_few_images_get_small_batches_as_in_train(ask):
    """Steps of 256 of 1,259 images at SGD's usual rate would leave every candidate at chance."""
    told = ask()
    assert (told.plan.training.batch_size, told.plan.training.learning_rate) == (32, 0.05)
    assert "training images: batches of 32 at a rate of up to 0.05" in told.stderr
    own = ask("--set", "batch_size=128").plan.training
    assert (own.batch_size, own.learning_rate) == (128, 0.4)


def test_shapes_of_one_s_own_are_named_as_architectures_are(ask):
    assert ask("--also", "nano", "--also", "16-s32r").plan.also == (
        edgenet.PRESETS["nano"],
        parse("16-s32r"),
    )
    assert ask("--also", "edge-16-s32r-white").plan.also == (parse("16-s32r-white"),)


def test_the_winner_is_told_as_the_command_that_trains_it(monkeypatch, tmp_path):
    trial = Trial(parse("16-s32r"), 70.0, Cost(9000, 10.0, 0.5, 0.4, 0.6))
    monkeypatch.setattr(module, "search", lambda *_, **__: [trial])
    limits = ["--max-latency=1ms", "--max-bytes=60000"]
    arguments = ["search", *limits, "--data=digits", f"--out={tmp_path}"]
    changes = ["--set", "augment.flip=none", "--set", "epochs=5"]  # these of the search alone
    result = CliRunner().invoke(main, [*arguments, "--image-size=8", *changes])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-3:] == [
        "  edgecifar train edge-16-s32r --epochs 300 --set ema=0.999 --set augment.flip=none "
        "--data digits --image-size 8x8",
        "  edgecifar quantize runs/edge-16-s32r --data digits --image-size 8x8",
        "  edgecifar export runs/edge-16-s32r-qat --int8 --data digits --image-size 8x8",
    ]
    assert (tmp_path / "front.svg").exists()
