"""One bench on several devices: those that fail say why, and the others go on."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecifar.benchmarks.devices.emulated import EmulatedDevice
from edgecifar.benchmarks.devices.local import LocalDevice
from edgecifar.benchmarks.devices.parcel import Parcel, pack
from edgecifar.benchmarks.devices.ssh import SshDevice
from edgecifar.benchmarks.devices.without_amx import WithoutAmx
from edgecifar.runtime import environment, modelfile, results
from edgecifar.runtime.benchmark import OF_IMAGES, Settings
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing
from edgecifar.runtime.stored import Outcome, bench_to_file, journal_of, store

KINDS = {
    LocalDevice.name: LocalDevice,
    WithoutAmx.name: WithoutAmx,
    "ssh": SshDevice,
    "emulated": EmulatedDevice,
}
Device = LocalDevice | WithoutAmx | SshDevice | EmulatedDevice
HERE = (LocalDevice, WithoutAmx)  # devices that are this machine
Progress = Callable[[str], object]


def device(spec: str) -> Device:
    """Return the device that `spec` names.

    Raises:
        EdgecifarError: there is no such kind, or its address is wrong.

    """
    kind = KINDS.get(spec) or KINDS.get(spec.partition(":")[0])  # a name, or what comes ahead of :
    if kind is None:
        raise EdgecifarError(f"{spec}: no such device: give local, ssh://host or emulated:pi4")
    return kind.from_spec(spec)


def bench_on(
    specs: Sequence[str],
    files: Sequence[Path],
    output: Path | None,
    *,
    data: Path | None,
    settings: Settings,
    force: bool = False,
    on_progress: Progress = lambda text: None,
) -> list[Outcome]:
    """Measure `files` on each device in turn; each result is stored as soon as it is there.

    One device's result goes to `output`, those of several to files beside it whose names end in
    the device's. Where some of those exist, an interrupted call goes on with the others, and with
    devices on which a file failed.

    Raises:
        EdgecifarError: a device's name is wrong, the images can't be read, there is no folder for
            results, all results exist, or one that exists is of another bench or device.

    """
    devices = [device(spec) for spec in specs]
    outputs = _outputs(output, [one.name for one in devices])
    if output:
        journal_of(output)  # raises if there is no such folder
    finished = {path for path in outputs if path and path.exists() and not force}
    failed = {path for path in finished if len(devices) > 1 and _has_errors(path)}
    kept = finished - failed
    if outputs and all(path in kept for path in outputs):
        refuse_existing(outputs[0], force=force)
    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
        parcel = None
        if finished or any(one.remote for one in devices):
            on_progress("reading models and images")
            parcel = pack(files, data, settings, Path(folder))
        known = {
            path: _earlier(one, path, parcel, settings)
            for one, path in zip(devices, outputs, strict=True)
            if path in finished
        }
        outcomes = []
        for one, path in zip(devices, outputs, strict=True):
            how = {"data": data, "settings": settings, "parcel": parcel}
            if path in kept:
                on_progress(f"{one.name}: measured before, in {path}")
                outcomes.append(Outcome(one.name, known[path]))
            else:
                outcomes.append(_measure(one, tuple(files), path, on_progress, **how))
    return outcomes


def _has_errors(path: Path) -> bool:
    return any("error" in row for row in results.read(path)["models"])


def _earlier(one: Device, path: Path, parcel: Parcel, settings: Settings) -> dict[str, Any]:
    """Read a stored result; EdgecifarError if it is of another device, or of another bench."""
    result = results.read(path)
    data, asked = result.get("data") or {}, parcel.request["data"] or {}
    for what, same in (
        ("another device", _is_of(one, result)),
        ("other files", _files_of(result) == _files_in(parcel)),  # the first one sets the ratios
        ("other images", all(data.get(key) == asked.get(key) for key in OF_IMAGES)),
        ("other settings", result["settings"] == settings.as_json()),
    ):
        if not same:
            raise EdgecifarError(
                f"{path} is of {what}: give --json another name, or replace it with --force"
            )
    return result


def _is_of(one: Device, result: Mapping[str, Any]) -> bool:
    """Tell whether a result is of this device; of this very processor, where it is this machine."""
    if result.get("device", LocalDevice.name) != one.name:
        return False
    if not isinstance(one, HERE):
        return True
    here = {"board": environment.board(), "cpu": environment.cpu_model()}
    here["features"] = one.features()
    return all(result["environment"].get(key) == value for key, value in here.items())


def _files_of(result: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    rows = result["models"]
    return list(dict.fromkeys((Path(row["file"]).name, row.get("sha256")) for row in rows))


def _files_in(parcel: Parcel) -> list[tuple[str, str | None]]:
    return list(dict.fromkeys((path.name, _digest(path)) for path in parcel.originals))


def _digest(path: Path) -> str | None:
    """Return what a result holds of the file: nothing of a damaged one."""
    try:
        return modelfile.read(path).sha256
    except EdgecifarError:
        return None


def _measure(
    one: Device,
    files: tuple[Path, ...],
    output: Path | None,
    on_progress: Progress,
    *,
    data: Path | None,
    settings: Settings,
    parcel: Parcel | None,
) -> Outcome:
    def told(text: str) -> None:
        on_progress(f"{one.name}: {text}")

    try:
        if isinstance(one, LocalDevice):
            result = bench_to_file(files, output, data=data, settings=settings, on_progress=told)
        else:
            result = _measure_remote(one, parcel, output, told)
    except EdgecifarError as error:
        return Outcome(one.name, error=str(error))
    except OSError as error:  # as of a full disk
        where = error.filename or output or "this machine"
        problem = f"{where}: {error.strerror or error}: free some space there, or allow writing"
        return Outcome(one.name, error=problem)
    return Outcome(one.name, result)


def _measure_remote(
    one: WithoutAmx | SshDevice | EmulatedDevice,
    parcel: Parcel,
    output: Path | None,
    on_progress: Progress,
) -> dict[str, Any]:
    result = one.measure(parcel, on_progress)
    if output:
        store(output, result)
    try:
        one.forget(parcel)  # only now: a kill before this line loses nothing
    except EdgecifarError as error:
        on_progress(f"what the bench left there is still there: {error}")
    return result


def _outputs(output: Path | None, names: Sequence[str]) -> list[Path | None]:
    """Return where the results of devices go, each to a file of its own."""
    if output is None or len(names) == 1:
        return [output] * len(names)
    ends = {name: _slug(name) for name in names}
    taken = list(ends.values())
    for name, end in ends.items():
        if taken.count(end) > 1:  # they differ in punctuation alone
            ends[name] = f"{end}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return [output.with_name(f"{output.stem}-{ends[name]}{output.suffix}") for name in names]


def _slug(name: str) -> str:
    """Return a device's name for a file; its query too, as one host may have two Pythons."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name.removeprefix("ssh://")).strip("-")
