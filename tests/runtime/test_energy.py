import os
import stat

import pytest

from edgecifar.runtime import energy

PMIC = """\
     3V7_WL_SW_A current(0)=0.10000000A
       VDD_CORE_A current(7)=2.00000000A
     3V7_WL_SW_V volt(8)=3.70000000V
       VDD_CORE_V volt(15)=0.80000000V
          EXT5V_V volt(24)=5.15000000V
"""


@pytest.fixture
def rapl(tmp_path):
    """Two packages, one about to overflow, a part of the first, and the whole board."""
    for name, of, value in (
        ("intel-rapl:0", "package-0", 9_000_000),
        ("intel-rapl:1", "package-1", 5_000_000),
        ("intel-rapl:0:0", "core", 1),
        ("intel-rapl:2", "psys", 7_000_000),
    ):
        zone = tmp_path / "sys/class/powercap" / name
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{of}\n")
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text("9999999\n")
    return tmp_path


def test_rapl_counts_packages_across_an_overflow(rapl):
    meter = energy.find_meter(rapl)
    assert "RAPL" in meter.source

    def work():
        (rapl / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("1000000\n")
        (rapl / "sys/class/powercap/intel-rapl:1/energy_uj").write_text("5500000\n")
        (rapl / "sys/class/powercap/intel-rapl:2/energy_uj").write_text("9999000\n")

    assert meter.joules(work) == pytest.approx(2.5)


def test_counters_that_may_not_be_read(rapl, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (rapl / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("")
    assert energy.find_meter(rapl) is None


def test_the_power_chip_of_a_pi_5():
    assert energy.watts(PMIC) == pytest.approx(0.1 * 3.7 + 2.0 * 0.8)
    assert energy.watts("Command not registered\n") == 0


def test_the_power_chip_is_asked(tmp_path, monkeypatch):
    fake = tmp_path / "vcgencmd"
    fake.write_text(f"#!/bin/sh\n[ $1 = pmic_read_adc ] && /bin/cat <<'E'\n{PMIC}E\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    meter = energy.find_meter(tmp_path)
    assert "PMIC" in meter.source
    import time

    assert meter.joules(lambda: time.sleep(0.2)) == pytest.approx(0.2 * 1.97, rel=0.3)


def test_a_chip_that_does_not_always_answer(monkeypatch):
    import itertools
    import time

    answers = itertools.cycle([PMIC, ""])
    monkeypatch.setattr(energy, "_read_pmic", lambda: next(answers))
    found = energy.Pmic().joules(lambda: time.sleep(0.3))
    assert found == pytest.approx(0.3 * 1.97, rel=0.2)
    monkeypatch.setattr(energy, "_read_pmic", lambda: "")
    with pytest.raises(energy.NoReadingError):
        energy.Pmic().joules(lambda: None)


class Steady:
    """A machine that draws 2 W at rest and 1 mJ more with each call."""

    source = "made up"

    def __init__(self):
        self.calls = 0

    def joules(self, work):
        import time

        before, start = self.calls, time.perf_counter()
        work()
        return 2 * (time.perf_counter() - start) + 1e-3 * (self.calls - before)


def test_energy_of_a_call(monkeypatch):
    monkeypatch.setattr(energy, "_WINDOW_SECONDS", 0.02)
    meter = Steady()

    def call():
        meter.calls += 1

    found = energy.measure(call, 1e6, meter)  # 20 calls a window
    assert found.idle_watts == pytest.approx(2, rel=0.2)
    assert found.above_idle == pytest.approx(1, rel=0.2)
    assert found.low <= found.median <= found.high
    assert found.median >= found.above_idle
