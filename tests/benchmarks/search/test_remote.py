import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.devices.fleet import bench_on
from edgecifar.benchmarks.search import remote
from edgecifar.benchmarks.search.commands import search
from edgecifar.benchmarks.search.cost import Stopwatch
from edgecifar.benchmarks.search.remote import RemoteRace, machine_of
from edgecifar.runtime import environment, modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.shipped import default_model
from edgecifar.runtime.stored import Outcome
from edgecifar.train.models.edgenet import parse

_spec = importlib.util.spec_from_file_location(
    "devices", Path(__file__).parents[1] / "devices/conftest.py"
)
_devices = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_devices)
sshd = _devices.sshd  # a device that this machine reaches over ssh
HERE = f"ssh://device?python={sys.executable}"


@pytest.fixture
def payload():
    return modelfile.read(default_model()).payload


@pytest.fixture
def trusting(monkeypatch):
    """Take times as they come: beside other tests they are doubtful."""

    def bench(*how, **options):
        (outcome,) = bench_on(*how, **options)
        valid = outcome.result and outcome.result | {"valid": True, "doubts": []}
        return [dataclasses.replace(outcome, result=valid)]

    monkeypatch.setattr(remote, "bench_on", bench)


def test_shapes_are_timed_on_a_device(sshd, trusting):
    stopwatch = Stopwatch((32, 32), 10, device=HERE)
    assert stopwatch.measured_on is None
    light, heavy = (stopwatch.measure(parse(text)) for text in ("16-s32r", "32p-s64rr-s96r"))
    assert light.ratio < heavy.ratio  # in turns with the reference, whatever else runs
    assert light.low <= light.ratio <= light.high
    assert light.latency_us > 0
    assert light.bytes < heavy.bytes
    assert "litert" in stopwatch.measured_on
    assert len(list((sshd.cache / "store").glob("*.tflite"))) == 3, "the reference went there once"


def test_a_device_that_does_not_answer(sshd, payload):
    sshd.stop()
    with pytest.raises(EdgecifarError, match=r"ssh://device.*nothing answers"):
        RemoteRace(HERE, payload, None).time(payload)


def test_doubtful_times_are_refused(monkeypatch, payload):
    doubts = ["the firmware reports: throttled", "the clock fell from 1800 to 600 MHz"]
    outcome = Outcome("ssh://pi", {"models": [], "valid": False, "doubts": doubts})
    monkeypatch.setattr(remote, "bench_on", lambda *_, **__: [outcome])
    with pytest.raises(EdgecifarError, match=r"ssh://pi: .*: throttled; the clock fell .*: mend"):
        RemoteRace("ssh://pi", payload, None).time(payload)


def test_an_emulated_board_is_refused_before_anything_is_done(tmp_path):
    out = tmp_path / "search"
    arguments = ["--max-latency=1x", "--max-bytes=60000", "--data=digits", f"--out={out}"]
    told = CliRunner().invoke(search, [*arguments, "--device=emulated:pi4"])
    assert "emulated:pi4: an emulated board gives no times" in str(told.exception)
    assert not out.exists()
    with pytest.raises(EdgecifarError, match="gives no times"):
        RemoteRace("emulated:pi4", b"", None)


def test_machines_are_told_apart():
    assert machine_of("ssh://pi@kitchen") == "ssh://pi@kitchen"
    assert machine_of("local").startswith(str(environment.cpu_model() or "an unknown processor"))
    with pytest.raises(EdgecifarError, match="no such device"):
        machine_of("kitchen")
