"""Which interpreter works on this machine, why another doesn't, and what to do about it.

Nothing here imports NumPy, which may be what is broken.
"""

import importlib.util
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import Any

from edgecifar.runtime import modelfile
from edgecifar.runtime.advice import advise
from edgecifar.runtime.ailments import TIMED_OUT, describe_machine, explain, killed
from edgecifar.runtime.backends import BACKENDS, CAMERAS, NEEDED, Backend
from edgecifar.runtime.errors import EdgecifarError, NoInterpreterError
from edgecifar.runtime.probe import CrashError, child, probe
from edgecifar.runtime.shipped import default_model, names

_TIMEOUT = 120  # seconds; TensorFlow needs 40 of them on a Pi 3
_UNTOLD = "not told by this machine"
_IMPORT = (
    "from edgecifar.runtime.backends import *; (NEEDED | BACKENDS | CAMERAS)[sys.argv[1]].load()"
)


@dataclass(frozen=True)
class Examination:
    """One library: ``version`` is None if it isn't installed, ``reason`` if it works.

    ``first_us`` is the first inference of the model that ships with the runtime, where one does.
    """

    name: str
    package: str
    version: str | None
    works: bool
    reason: str | None = None
    mend: str | None = None
    import_ms: float | None = None
    first_us: float | None = None


def examine() -> dict[str, Any]:
    """Try every interpreter in a process of its own and describe the machine, as JSON holds it.

    Libraries for cameras are tried as far as they are there.
    """
    machine = describe_machine()
    present = {name: library for name, library in CAMERAS.items() if _is_there(name)}
    needed, interpreters, cameras = (
        [asdict(_examine(backend, machine)) for backend in known.values()]
        for known in (NEEDED, BACKENDS, present)
    )
    return {
        "schema": 1,
        "kind": "doctor",
        "machine": machine,
        "needed": needed,
        "interpreters": interpreters,
        "cameras": cameras,
        "advice": advise(machine, interpreters, needed),
    }


def _examine(backend: Backend, machine: dict[str, Any]) -> Examination:
    version, package = backend.installed, backend.distributions[0]
    start = time.perf_counter()
    code, complaint = _run(child(_IMPORT, backend.name))
    import_ms = 1000 * (time.perf_counter() - start)
    if code:
        told = explain(backend, complaint, machine, code=code)
        return Examination(backend.name, package, version, False, *told)
    first_us = None
    if backend.kind == "tflite" and names():
        try:
            first_us = probe(modelfile.read(default_model()), backend.name).first_us
        except CrashError as error:  # not the file's fault: its hash has been checked
            told = killed(package, error.number, machine, doing="the first inference")
            return Examination(backend.name, package, version, False, *told)
        except EdgecifarError as error:
            told = str(error).partition(": ")[2]
            reason, _, mend = told.rpartition(": ")
            if not isinstance(error, NoInterpreterError):
                # What would mend a file is none of the mends of one whose hash has been checked.
                reason, mend = reason or told, f"`pip install -U {package}`"
            return Examination(backend.name, package, version, False, reason, mend)
    return Examination(backend.name, package, version, True, import_ms=import_ms, first_us=first_us)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is imported, and doesn't say from where
        return True


def _run(command: list[str]) -> tuple[int, str]:
    """Exit status (negative: the signal) and standard error of a command."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return -TIMED_OUT, f"it doesn't import within {_TIMEOUT} s"
    return done.returncode, done.stderr.decode(errors="replace")


def lines(examined: dict[str, Any]) -> list[str]:
    """Lay out an examination for a terminal."""
    machine = examined["machine"]
    fields = {
        "machine": machine["board"] or machine["machine"],
        "CPU": f"{machine['cpu'] or 'unknown'}, {machine['cores']} cores, {machine['machine']}",
        "features": ", ".join(machine["features"]) or _none(machine),
        "system": f"{machine['system']}, {machine['libc'] or 'unknown C library'}, "
        f"Python {machine['python']} ({machine['python_bits']} bits)",
        "temperature": _known(machine["temperature_c"], "{:.0f} °C"),
        "governor": _known(machine["governor"], "{}") + _clock(machine),
        "throttling": _throttling(machine["throttled"]),
    }
    width = max(map(len, fields))
    text = [f"{name.ljust(width)}  {value}" for name, value in fields.items()]
    text += ["", "needed", *map(_library_line, examined["needed"])]
    text += ["", "interpreters", *map(_library_line, examined["interpreters"])]
    if examined["cameras"]:
        text += ["", "cameras", *map(_library_line, examined["cameras"])]
    return [*text, "", "advice", *(f"  - {sentence}" for sentence in examined["advice"])]


def _library_line(row: dict[str, Any]) -> str:
    name = f"{row['name']} {row['version'] or ''}".strip()
    if not row["works"]:
        return f"  no   {name}: {row['reason']}; {row['mend']}"
    first = f", first inference {row['first_us'] / 1000:.1f} ms" if row["first_us"] else ""
    return f"  yes  {name}: imports in {row['import_ms']:.0f} ms{first}"


def _known(value: Any, form: str) -> str:
    return _UNTOLD if value is None else form.format(value)


def _none(machine: dict[str, Any]) -> str:
    return "none that matter here" if machine["platform"] == "linux" else _UNTOLD


def _clock(machine: dict[str, Any]) -> str:
    now, most = machine["frequency_mhz"], machine["max_frequency_mhz"]
    if not now:
        return ""
    return f", {now:.0f} MHz now" + (f" of {most:.0f}" if most else "")


def _throttling(flags: list[str] | None) -> str:
    if flags is None:
        return _UNTOLD
    return ", ".join(flags) or "none"
