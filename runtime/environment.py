"""What a measurement depends on: CPU, its features, clock and temperature, and versions.

Everything is read from Linux's /proc and /sys below ``root``, which tests replace, and a Raspberry
Pi's firmware is asked where they don't say; what a machine doesn't tell is None.
"""

import math
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VNNI = frozenset({"avx vnni", "avx512 vnni"})  # x86's dot products of 8-bit integers
BFLOAT16 = "bf16"  # the feature of a CPU that multiplies in bfloat16
_ROOT = Path("/")
# Features that decide how fast int8 and float kernels are, by their name in /proc/cpuinfo.
_FEATURES = {
    "asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dot product", "i8mm": "i8mm",
    "sve": "sve", "avx2": "avx2", "fma": "fma", "avx512f": "avx512", "avx_vnni": "avx vnni",
    "avx512_vnni": "avx512 vnni", "amx_int8": "amx int8", "avx512_bf16": BFLOAT16, "bf16": BFLOAT16,
}  # fmt: skip
_ARM_PARTS = {  # of implementer 0x41, from Arm's MIDR_EL1 tables
    0xC07: "Cortex-A7", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
    0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD49: "Neoverse-N2",
}  # fmt: skip
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_THROTTLED_BITS = {
    0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit",
    16: "under-voltage earlier", 17: "frequency capped earlier", 18: "throttled earlier",
    19: "soft temperature limit earlier",
}  # fmt: skip
_THROTTLED_NOW = 0xF
_BUSY = 0.25  # share of all cores at work for others that makes latencies doubtful
_DISTRIBUTIONS = (
    "edgecifar-runtime", "numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "tensorflow"
)  # fmt: skip


def describe(root: Path = _ROOT) -> dict[str, Any]:
    """Everything below as one dictionary that JSON can hold."""
    return {
        "board": board(root),
        "cpu": cpu_model(root),
        "cores": os.cpu_count(),
        "features": cpu_features(root),
        "machine": platform.machine(),
        "system": operating_system(root),
        "memory_bytes": memory_bytes(root),
        **state(root),
        "versions": versions(),
    }


def state(root: Path = _ROOT) -> dict[str, Any]:
    """Return what changes while a benchmark runs; take it before and after."""
    return {
        "governor": _text(root / _CPUFREQ / "scaling_governor"),
        "frequency_mhz": frequency_mhz(root),
        "max_frequency_mhz": _thousandths(root / _CPUFREQ / "cpuinfo_max_freq"),
        "temperature_c": temperature(root),
        "throttled": throttled(root),
        "load_average": _load_average(root),
    }


_CPUFREQ = Path("sys/devices/system/cpu/cpu0/cpufreq")
_GET_THROTTLED = (  # a Raspberry Pi 5 calls its node soc@107c000000
    "sys/devices/platform/soc*/soc*:firmware/get_throttled",
    "sys/devices/platform/soc*:firmware/get_throttled",
)


def board(root: Path = _ROOT) -> str | None:
    """Name of a single-board computer, as in "Raspberry Pi 4 Model B Rev 1.4"."""
    return _text(root / "proc/device-tree/model")


def cpu_model(root: Path = _ROOT) -> str | None:
    """Name of the CPU; on Arm, which only gives numbers, by its part number."""
    fields = _cpuinfo(root)
    if fields.get("model name"):
        return fields["model name"]
    try:
        implementer = int(fields["CPU implementer"], 16)
        part = int(fields["CPU part"], 16)
    except (KeyError, ValueError):
        return platform.processor() or None
    known = _ARM_PARTS.get(part) if implementer == 0x41 else None
    return known or f"implementer {implementer:#x} part {part:#x}"


def cpu_features(root: Path = _ROOT) -> list[str]:
    """Instruction sets that matter to the kernels, sorted."""
    fields = _cpuinfo(root)
    words = (fields.get("flags") or fields.get("Features") or "").split()
    return sorted({_FEATURES[word] for word in words if word in _FEATURES})


def operating_system(root: Path = _ROOT) -> str:
    """Name of the distribution, else of the kernel."""
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return f"{platform.system()} {platform.release()}"


def memory_bytes(root: Path = _ROOT) -> int | None:
    """Installed memory."""
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def frequency_mhz(root: Path = _ROOT) -> float | None:
    """Clock of the first core."""
    scaled = _thousandths(root / _CPUFREQ / "scaling_cur_freq")
    if scaled is not None:
        return scaled
    try:
        return float(_cpuinfo(root)["cpu MHz"])
    except (KeyError, ValueError):
        return None


def temperature(root: Path = _ROOT) -> float | None:
    """Degrees Celsius of the hottest zone that names a CPU or SoC, else of the first zone."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    named = [z for z in zones if any(w in (_text(z / "type") or "") for w in ("cpu", "soc", "x86"))]
    values = [_thousandths(zone / "temp") for zone in named or zones[:1]]
    return max((value for value in values if value is not None), default=None)


def throttled(root: Path = _ROOT) -> list[str] | None:
    """Complaints of the Raspberry Pi's firmware, an empty list for none, None on other machines."""
    files = (file for pattern in _GET_THROTTLED for file in root.glob(pattern))
    text = next(filter(None, map(_text, files)), None)
    if text is None and root == _ROOT:
        text = _ask_firmware()
    try:
        bits = int(text or "", 16)
    except ValueError:
        return None
    return [name for bit, name in _THROTTLED_BITS.items() if bits >> bit & 1]


@dataclass(frozen=True)
class Usage:
    """Seconds since some moment: by the clock, of all cores' work, and of this process's."""

    clock: float
    busy: float | None
    own: float

    def others(self, later: "Usage", cores: int | None = None) -> float | None:
        """Share of all cores (0..1) that other programs, or the host, used until ``later``."""
        elapsed = (later.clock - self.clock) * (cores or os.cpu_count() or 1)
        if self.busy is None or later.busy is None or elapsed <= 0:
            return None
        used = later.busy - self.busy - (later.own - self.own)
        return min(1.0, max(0.0, used / elapsed))


def usage(root: Path = _ROOT) -> Usage:
    """Take the processor's counters; the difference of two tells what else ran meanwhile."""
    return Usage(time.monotonic(), _busy_seconds(root), time.process_time())


def doubts(before: dict[str, Any], *later: dict[str, Any]) -> list[str]:
    """Why latencies measured from one `state` on can't be trusted; empty if nothing says so.

    Throttling comes and goes: ``later`` are states of many moments, to the last.
    """
    now = {name for bit, name in _THROTTLED_BITS.items() if _THROTTLED_NOW >> bit & 1}
    reported = {name for state in later for name in state["throttled"] or ()}
    serious = reported & now | reported - set(before["throttled"] or ())
    found = [f"the firmware reports: {name}" for name in sorted(serious)]
    governor, start = before["governor"], before["frequency_mhz"]
    changed = [state["governor"] for state in later if state["governor"] not in (governor, None)]
    if governor and changed:
        found.append(f"the governor changed from {governor} to {changed[0]}")
    slowest = min((state["frequency_mhz"] or math.inf for state in later), default=math.inf)
    # Under load a clock that scales goes up. On x86 the kernel's figure is a momentary one.
    if governor == "performance" and start and slowest < 0.8 * start:
        found.append(f"the clock fell from {start:.0f} to {slowest:.0f} MHz")
    return found


def crowding(others: float | None) -> list[str]:
    """Why latencies can't be trusted, if other programs used that share (0..1) of all cores."""
    if others is None or others <= _BUSY:
        return []
    return [f"other programs kept the processor {100 * others:.0f} % busy"]


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that have a part in the figures."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _ask_firmware() -> str | None:
    """Hexadecimal flags as vcgencmd has them, for kernels that don't show them in /sys."""
    import shutil
    import subprocess

    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        told = subprocess.run(
            [program, "get_throttled"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip().removeprefix("throttled=")


def _thousandths(path: Path) -> float | None:
    """Read a number that the kernel gives in kHz or millidegrees."""
    try:
        return int(_text(path) or "") / 1000
    except ValueError:
        return None


def _load_average(root: Path) -> float | None:
    text = _text(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _busy_seconds(root: Path) -> float | None:
    """Seconds that all cores together have worked since the start, time stolen by a host too."""
    words = (_text(root / "proc/stat") or "").partition("\n")[0].split()
    if not words or words[0] != "cpu" or not hasattr(os, "sysconf"):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _cpuinfo(root: Path) -> dict[str, str]:
    """Fields of the first core."""
    fields: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields
