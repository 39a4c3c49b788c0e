"""What to do with this machine, told from what `edgecifar doctor` found."""

from collections.abc import Sequence
from typing import Any

from edgecifar.runtime.ailments import has_wheel, place, processor

_HOT = 80  # degrees Celsius; a Raspberry Pi slows down from there on
_INT8_FEATURES = frozenset(
    {"dot product", "i8mm", "sve", "avx vnni", "avx512 vnni", "amx int8"}
)  # fmt: skip


def advise(
    machine: dict[str, Any],
    interpreters: list[dict[str, Any]],
    needed: Sequence[dict[str, Any]] = (),
) -> list[str]:
    """Return sentences, the most important first; never none.

    ``needed`` are the libraries without which no interpreter is of use.
    """
    broken = [row for row in needed if not row["works"]]
    if broken:
        said = [f"{row['name']} comes first: {row['mend']}." for row in broken]
        return [*said, *_condition(machine)]
    working = [row["name"] for row in interpreters if row["works"]]
    return [
        *_interpreter(machine, interpreters, working),
        *_format(machine, working),
        *_condition(machine),
    ]


def _interpreter(
    machine: dict[str, Any], interpreters: list[dict[str, Any]], working: list[str]
) -> list[str]:
    rows = {row["name"]: row for row in interpreters}
    if "litert" in working:
        return ["Use LiteRT (the default here): `edgecifar classify` and `bench` take it."]
    said = []
    if machine["machine"] == "aarch64" and processor(machine) != "aarch64":
        said.append(
            "This is a 32-bit Python on a 64-bit kernel: a 64-bit Raspberry Pi OS runs LiteRT, "
            "which is faster; to stay, install the runtime with `linux32 pip`."
        )
    if rows["litert"]["version"] is not None:
        said.append(f"LiteRT would be the best choice: {rows['litert']['mend']}.")
    elif has_wheel("ai-edge-litert", machine):
        said.append("LiteRT is the fastest interpreter here: `pip install ai-edge-litert`.")
    if "tflite-runtime" in working:
        said.append("Until then use tflite-runtime." if said else "Use tflite-runtime.")
    elif not working and has_wheel("tflite-runtime", machine):
        said.append("tflite-runtime fits: `pip install tflite-runtime 'numpy<2'`.")
    elif not working and has_wheel("tensorflow", machine):  # an Intel Mac
        said.append("TensorFlow runs .tflite files here: `pip install tensorflow`.")
    elif working:
        said.append(f"Until then use {working[0]}." if said else f"Use {working[0]}.")
    if not said:
        said.append(
            f"No interpreter has a wheel for {place(machine)} and Python {machine['python']}: "
            "use a 64-bit system with glibc, or one that the distribution has."
        )
    return said


def _format(machine: dict[str, Any], working: list[str]) -> list[str]:
    """Which kind of file is likely to be fastest, by what was measured on such machines."""
    arm = processor(machine).startswith(("aarch64", "arm"))
    if not working:
        return []
    if "litert" not in working and not arm and "tflite-runtime" in working:
        return ["Take float32 files: tflite-runtime's int8 is slower than its float on x86."]
    present = sorted(_INT8_FEATURES & set(machine["features"]))
    measure = "`edgecifar bench` tells int8 and float32 apart."
    if present:
        small = f" With AMX small networks may be slower in int8: {measure}"
        amx = small if "amx int8" in present else ""
        return [f"Take int8 files: this CPU has {present[0]} for them.{amx}"]
    if machine["platform"] != "linux":
        return [f"Whether int8 files are faster isn't told by this system: {measure}"]
    if arm:
        return [
            "This CPU has no dot product: int8 files save memory but are not surely faster. "
            f"{measure}"
        ]
    return [f"This CPU has no VNNI: int8 files are smaller but may be slower. {measure}"]


def _condition(machine: dict[str, Any]) -> list[str]:
    said = []
    flags = machine["throttled"] or []
    if any("under-voltage" in flag for flag in flags):
        said.append("The power supply is too weak: take the official one, or a shorter cable.")
    elif flags:
        said.append("The firmware has slowed the CPU down: cool it.")
    if (machine["temperature_c"] or 0) >= _HOT and not flags:
        said.append(f"It is at {machine['temperature_c']:.0f} °C: cool it before you measure.")
    if machine["governor"] not in (None, "performance"):
        said.append(
            f"For steady latencies set the governor, now {machine['governor']}: "
            "`echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor`."
        )
    return said
