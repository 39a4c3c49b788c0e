"""On any x86-64 the kernel refuses AMX once it is withheld, whether there was any or not."""

import errno
import platform
import subprocess
import sys

import pytest

from edgecifar.benchmarks.devices.fleet import bench_on, device
from edgecifar.benchmarks.search.remote import machine_of
from edgecifar.runtime import environment
from edgecifar.runtime.benchmark import Settings, bench
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.timing import TimingPlan

SPEC = "local:without-amx"
QUICK = Settings(plan=TimingPlan(rounds=2, slice_ms=1.0, warm_up_ms=1.0), energy=False)


@pytest.fixture
def amx(monkeypatch):
    """Let the processor have AMX, as far as its description goes."""
    monkeypatch.setattr(environment, "cpu_features", lambda *_: ["amx int8", "avx vnni", "avx2"])
    monkeypatch.setattr(environment, "cpu_model", lambda *_: "Xeon")


def test_a_processor_that_has_none_is_told_apart(monkeypatch):
    monkeypatch.setattr(environment, "cpu_features", lambda *_: ["avx2"])
    with pytest.raises(EdgecifarError, match=f"{SPEC}: this processor has no AMX: take local"):
        device(SPEC)


def test_a_search_tells_its_latencies_from_those_with_amx(amx):
    assert machine_of("local") == "Xeon (amx int8, avx vnni, avx2)"
    assert machine_of(SPEC) == "Xeon (avx vnni, avx2)"


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="AMX is Linux's on x86"
)
class TestWithheld:
    def test_from_a_process_and_its_children(self):
        ask = (
            "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
            "print(libc.syscall(158, 0x1023, 18), ctypes.get_errno(), libc.syscall(158, 0x1021, 0))"
        )
        code = (
            "import subprocess, sys\n"
            "from edgecifar.benchmarks.devices.without_amx import withhold\n"
            f"withhold(); subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result, error, other = map(int, done.stdout.split())
        assert (result, error) == (-1, errno.EPERM)
        assert other == -1  # asked with a wrong address: what else it asks, the kernel answers

    def test_a_bench_says_so_and_answers_the_same(
        self, amx, tiny_models, tiny_data, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("EDGECIFAR_CACHE", "cache")
        (tmp_path / "random.py").write_text("raise SystemExit('not the library')")
        output = tmp_path / "r.json"
        (outcome,) = bench_on([SPEC], tiny_models, output, data=tiny_data, settings=QUICK)
        assert outcome.errors == []
        there, here = outcome.result, bench(tiny_models, data=tiny_data, settings=QUICK)
        assert there["device"] == SPEC
        assert there["environment"]["features"] == ["avx vnni", "avx2"]
        assert there["environment"]["withheld"] == ["amx int8"]
        for row, other in zip(there["models"], here["models"], strict=True):
            assert row["file"] == other["file"]
            assert row["latency_us"]["median"] > 0
            assert row["accuracy"]["top1"] == other["accuracy"]["top1"]
        left = {path.name for path in (tmp_path / "cache/without-amx").iterdir()}
        assert left == {"store", "lock"}  # one for all benches: none is measured beside another
