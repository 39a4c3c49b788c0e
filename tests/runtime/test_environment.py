import json
import os

import pytest

from edgecifar.runtime import environment

PI_4 = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n"
    "Features\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/meminfo": "MemTotal:        3884400 kB\nMemFree: 1 kB\n",
    "proc/loadavg": "0.10 0.20 0.30 1/2 3\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61341\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
}


@pytest.fixture
def machine(tmp_path):
    def build(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return build


def test_a_raspberry_pi_4(machine):
    found = environment.describe(machine(PI_4))
    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["cpu"] == "Cortex-A72"
    assert found["features"] == ["neon"]
    assert found["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["memory_bytes"] == 3884400 * 1024
    assert found["governor"] == "ondemand"
    assert found["frequency_mhz"] == found["max_frequency_mhz"] == 1800
    assert found["temperature_c"] == pytest.approx(61.341)
    assert found["throttled"] == ["under-voltage earlier", "throttled earlier"]
    assert found["load_average"] == 0.1
    assert found["versions"]["numpy"]


def test_an_x86_server(machine):
    root = machine(
        {
            "proc/cpuinfo": "model name\t: AMD EPYC\ncpu MHz\t\t: 2445.4\n"
            "flags\t\t: fpu avx2 fma avx512f avx512_vnni\n"
        }
    )
    assert environment.cpu_model(root) == "AMD EPYC"
    assert environment.frequency_mhz(root) == 2445.4
    assert environment.cpu_features(root) == ["avx2", "avx512", "avx512 vnni", "fma"]
    assert environment.throttled(root) is None


def test_dot_product_and_unknown_parts(machine):
    root = machine(
        {"proc/cpuinfo": "Features : asimd asimddp\nCPU implementer : 0x61\nCPU part : 0x022\n"}
    )
    assert environment.cpu_features(root) == ["dot product", "neon"]
    assert environment.cpu_model(root) == "implementer 0x61 part 0x22"


@pytest.mark.parametrize(
    "path",
    [
        "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
        "sys/devices/platform/soc@107c000000:firmware/get_throttled",
        "sys/devices/platform/soc:firmware/get_throttled",
    ],
)
def test_a_raspberry_pi_5_has_other_names(machine, path):
    assert environment.throttled(machine({path: "4\n"})) == ["throttled"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("[ $1 = get_throttled ] && echo throttled=0x50000",
         ["under-voltage earlier", "throttled earlier"]),
        ("echo throttled=0x0", []),
        ("echo VCHI initialization failed", None),
        ("exit 255", None),
    ],
)  # fmt: skip
def test_firmware_that_only_vcgencmd_reaches(tmp_path, monkeypatch, script, expected):
    program = tmp_path / "vcgencmd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(environment, "_GET_THROTTLED", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.throttled() == expected
    assert environment.throttled(tmp_path) is None  # another machine's files


def test_a_machine_that_tells_nothing(tmp_path):
    found = environment.describe(tmp_path)
    assert found["governor"] is found["temperature_c"] is found["throttled"] is None
    assert found["features"] == []
    json.dumps(found, allow_nan=False)


def test_this_machine():
    found = environment.describe()
    assert found["cores"] >= 1
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {}, None),
        ({"throttled": []}, {"throttled": []}, None),
        ({"throttled": ["throttled earlier"]}, {"throttled": ["throttled earlier"]}, None),
        ({"throttled": []}, {"throttled": ["throttled earlier"]}, "throttled earlier"),
        ({"throttled": []}, {"throttled": ["frequency capped"]}, "frequency capped"),
        ({"throttled": ["throttled"]}, {"throttled": ["throttled"]}, "throttled"),
        (
            {"governor": "performance", "frequency_mhz": 1800.0},
            {"frequency_mhz": 600.0},
            "from 1800 to 600 MHz",
        ),
        ({"governor": "ondemand", "frequency_mhz": 1800.0}, {"frequency_mhz": 600.0}, None),
    ],
)
def test_doubts(before, after, message):
    nothing = {"throttled": None, "governor": None, "frequency_mhz": None}
    found = environment.doubts(nothing | before, nothing | after)
    assert len(found) == (0 if message is None else 1)
    assert message is None or message in found[0]


def test_what_passed_meanwhile_is_a_doubt():
    """As a Pi has throttled before, whose firmware goes on to say so."""
    earlier = ["throttled earlier"]
    calm = {"throttled": earlier, "governor": "performance", "frequency_mhz": 2400.0}
    hot = {"throttled": ["throttled", *earlier], "governor": "powersave", "frequency_mhz": 600.0}
    cooling = hot | {"throttled": earlier, "frequency_mhz": 800.0}
    assert environment.doubts(calm, calm, hot, cooling, calm) == [
        "the firmware reports: throttled",
        "the governor changed from performance to powersave",
        "the clock fell from 2400 to 600 MHz",
    ]
    assert environment.doubts(calm, calm, calm) == environment.doubts(calm) == []


def test_other_programs_are_noticed():
    before = environment.Usage(clock=10, busy=100, own=5)
    after = environment.Usage(clock=20, busy=118, own=13)
    assert before.others(after, cores=2) == pytest.approx(0.5)
    assert before.others(environment.Usage(20, None, 13), cores=2) is None
    nothing = {"throttled": None, "governor": None, "frequency_mhz": None}
    assert environment.doubts(nothing, nothing) == []
    assert environment.crowding(0.1) == environment.crowding(None) == []
    assert "50 % busy" in environment.crowding(0.5)[0]


def test_busy_seconds_are_read(machine):
    root = machine({"proc/stat": "cpu  100 200 300 4000 50 6 7 8 0 0\ncpu0 1 2 3\n"})
    ticks = os.sysconf("SC_CLK_TCK")
    assert environment.usage(root).busy == pytest.approx(621 / ticks)


def test_a_governor_that_changes_is_a_doubt():
    before = {"throttled": None, "governor": "performance", "frequency_mhz": None}
    found = environment.doubts(before, before | {"governor": "powersave"})
    assert found == ["the governor changed from performance to powersave"]
