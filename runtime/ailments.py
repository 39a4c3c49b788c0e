"""Why a library doesn't import or run, told from how its process ended and what it printed."""

import platform
import re
import signal
import struct
import sys
import sysconfig
from collections.abc import Callable
from typing import Any

from edgecifar.runtime import environment
from edgecifar.runtime.backends import Backend

# Which wheels of interpreters there are: for which processors of each system, as `sys.platform` has
# it, and for which Python at most. Those for Linux need glibc: there is none for musl.
_64_BIT = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64", "x86_64"), "win32": ("AMD64",)}
_WHEELS: dict[str, dict[str, tuple[str, ...]]] = {
    "ai-edge-litert": _64_BIT | {"darwin": ("arm64",)},
    "tflite-runtime": {"linux": ("x86_64", "aarch64", "armv7l", "armv8l")},
    "tensorflow": _64_BIT,
    "onnxruntime": _64_BIT,
}
_NEWEST_PYTHON = {"tflite-runtime": (3, 11)}
# Signals by their numbers everywhere but on Windows, which has no names for them.
TIMED_OUT = 14  # SIGALRM
KILLED = 9
_SYSTEMS = {"darwin": " on macOS", "win32": " on Windows"}
_32_BIT = "armv7l"
# What pip's own package is of no use for: it is tied to the system's libraries.
_FROM_APT = {"picamera2": "`apt install --reinstall python3-picamera2`"}


def describe_machine() -> dict[str, Any]:
    """`environment.describe`, and what decides which wheels fit."""
    return {
        **environment.describe(),
        "platform": sys.platform,
        "python": platform.python_version(),
        "python_bits": 8 * struct.calcsize("P"),
        "libc": _libc(),
    }


def explain(
    library: Backend, complaint: str, machine: dict[str, Any], *, code: int = 1
) -> tuple[str, str]:
    """Return why a library didn't import, and how to mend it; see `diagnose`."""
    version = library.installed
    if library.kind == "camera":  # Debian's OpenCV has no version that its distribution tells
        version = version or ""
    package = library.distributions[0]
    return diagnose(package, version, code=code, complaint=complaint, machine=machine)


def diagnose(
    package: str, version: str | None, *, code: int, complaint: str, machine: dict[str, Any]
) -> tuple[str, str]:
    """Return why ``import`` failed and how to mend it.

    ``code`` is the exit status (negative: the signal), ``complaint`` what was on standard error,
    ``version`` None if the package isn't installed.
    """
    if code < 0:
        return killed(package, -code, machine, complaint=complaint)
    if known := recognise(package, complaint, machine):
        return known
    if version is None:
        return _missing(package, machine)
    last = (complaint.strip().splitlines() or ["no reason given"])[-1]
    mend = _FROM_APT.get(package, f"`pip install --force-reinstall {package}`")
    return f"it is installed and fails ({last})", mend


def recognise(package: str, complaint: str, machine: dict[str, Any]) -> tuple[str, str] | None:
    """Return why a library fails and how to mend it, if its complaint is a known one."""
    for pattern, explain in _PATTERNS:
        if found := re.search(pattern, complaint):
            return explain(found, package, machine)
    return None


def processor(machine: dict[str, Any]) -> str:
    """Name the processor as wheels do: a 32-bit Python on a 64-bit kernel is an armv7l."""
    if machine["machine"] in ("aarch64", "arm64") and machine["python_bits"] == 32:
        return _32_BIT
    return machine["machine"]


def has_wheel(package: str, machine: dict[str, Any]) -> bool:
    """Whether pip will find a wheel of the package for this system, processor and Python."""
    return _suits(package, machine) and not _is_too_new(package, machine)


def place(machine: dict[str, Any]) -> str:
    """Name what wheels are made for: the processor, and the system where that matters."""
    if _has_musl(machine):
        return f"{processor(machine)} with musl instead of glibc"
    return processor(machine) + _SYSTEMS.get(machine["platform"], "")


def _suits(package: str, machine: dict[str, Any]) -> bool:
    processors = _WHEELS[package].get(machine["platform"], ())
    return processor(machine) in processors and not _has_musl(machine)


def _has_musl(machine: dict[str, Any]) -> bool:
    return (machine["libc"] or "").startswith("musl")


def _is_too_new(package: str, machine: dict[str, Any]) -> bool:
    python = tuple(int(part) for part in machine["python"].split(".")[:2])
    return package in _NEWEST_PYTHON and python > _NEWEST_PYTHON[package]


def killed(
    package: str,
    number: int,
    machine: dict[str, Any],
    *,
    complaint: str = "",
    doing: str = "importing it",
) -> tuple[str, str]:
    """Return why the signal ``number`` ended a process while ``doing`` something, and the mend."""
    if number == signal.SIGILL:
        return (
            f"illegal instruction: this wheel needs a CPU feature that the "
            f"{machine['cpu'] or machine['machine']} lacks",
            "take another interpreter, or build this one on the machine",
        )
    if number == TIMED_OUT:
        return complaint, "look for a slow disk or full memory"
    if number == KILLED:
        return "the system killed it, most likely for want of memory", "close other programs"
    try:
        ending = signal.Signals(number).name
    except ValueError:
        ending = f"signal {number}"
    return f"{doing} crashes ({ending})", _FROM_APT.get(package, f"`pip install -U {package}`")


def _missing(package: str, machine: dict[str, Any]) -> tuple[str, str]:
    if package not in _WHEELS:
        return "not installed", f"`pip install {package}`"
    if not _suits(package, machine):
        others = "take another interpreter"
        if _has_musl(machine):
            others += " that the distribution has, or a system with glibc"
        elif machine["python_bits"] == 32:
            others += ", or a 64-bit system"
        return f"not installed: there is no wheel for {place(machine)}", others
    if _is_too_new(package, machine):
        newest = _NEWEST_PYTHON[package]
        return (
            f"not installed: there is no wheel for Python {machine['python']}, only up to "
            f"{newest[0]}.{newest[1]}",
            "take another interpreter, or an older Python",
        )
    return "not installed", f"`pip install {package}`"


def _old_libc(found: re.Match[str], package: str, machine: dict[str, Any]) -> tuple[str, str]:
    has = f" and this system has {machine['libc']}" if found[1] == "GLIBC" else ""
    return (
        f"it needs {found[1].lower()} {found[2]}{has}",
        f"update the operating system, or `pip install` an older {package}",
    )


def _numpy_abi(found: re.Match[str], package: str, machine: dict[str, Any]) -> tuple[str, str]:
    numpy = machine["versions"].get("numpy", "")
    if numpy.startswith("1."):
        return f"it was built for NumPy 2, and this is {numpy}", "`pip install 'numpy>=2'`"
    return f"it was built for NumPy 1, and this is {numpy or 'another'}", "`pip install 'numpy<2'`"


def _no_library(found: re.Match[str], package: str, machine: dict[str, Any]) -> tuple[str, str]:
    return f"the system library {found[1]} is missing", "install it with the system's packages"


def _wrong_build(found: re.Match[str], package: str, machine: dict[str, Any]) -> tuple[str, str]:
    return (
        f"it was built for another processor than {processor(machine)}",
        f"`pip install --force-reinstall {package}`",
    )


def _no_libcamera(found: re.Match[str], package: str, machine: dict[str, Any]) -> tuple[str, str]:
    return (
        "libcamera is missing, which the system's packages alone bring",
        "`apt install python3-picamera2`, and `python3 -m venv --system-site-packages`",
    )


_Explain = Callable[[re.Match[str], str, dict[str, Any]], tuple[str, str]]
_PATTERNS: tuple[tuple[str, _Explain], ...] = (
    (r"version `(GLIBC|GLIBCXX|CXXABI)_([\d.]+)' not found", _old_libc),
    (r"compiled using NumPy 1|_ARRAY_API not found|multiarray failed to import", _numpy_abi),
    (r"compiled against (?:ABI|API) version|numpy\.dtype size changed", _numpy_abi),
    (r"wrong ELF class|invalid ELF header|Exec format error|incompatible architecture",
     _wrong_build),
    (r"No module named 'libcamera'", _no_libcamera),
    (r"(\S+\.so[\d.]*): cannot open shared object file", _no_library),
)  # fmt: skip


def _libc() -> str | None:
    libc, version = platform.libc_ver()
    # Python tells musl by itself from 3.13 on.
    if libc != "musl" and "musl" in (sysconfig.get_config_var("SOABI") or ""):
        libc, version = "musl", ""
    return f"{libc} {version}".strip() or None
