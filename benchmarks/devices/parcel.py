"""What a device needs for a bench, named by content, so that nothing is copied twice."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar import runtime
from edgecifar.runtime import modelfile
from edgecifar.runtime.benchmark import Settings, describe
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.labelled import Labelled, read_labelled
from edgecifar.runtime.results import seal

_HASH_LETTERS = 24
_ORDER_LETTERS = 8
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: equal sources, equal bytes


@dataclass(frozen=True)
class Parcel:
    """A request as the device's agent reads it, and files by the name that it knows them by.

    ``key`` is the same for the same files, images and settings: a device that has begun such a
    bench goes on with it.
    """

    key: str
    request: Mapping[str, Any]
    files: Mapping[str, Path]
    originals: tuple[Path, ...]


def pack(models: Sequence[Path], data: Path | None, settings: Settings, folder: Path) -> Parcel:
    """Gather models and test images, writing the images into `folder`.

    A file that can't be read is sent as it is: the device's row will say what is wrong with it.

    Raises:
        EdgecifarError: the images can't be read, or a model file is missing.

    """
    files: dict[str, Path] = {}
    entries = []
    for path in models:
        if not path.is_file():
            raise EdgecifarError(f"{path}: no such model file: check the path")
        stored = f"{_digest(path.read_bytes())}{path.suffix}"
        files[stored] = path
        entries.append({"name": path.name, "stored": stored})
    images = _images(models, data, settings, folder) if data else None
    if images:
        files |= {name: folder / name for name in images["stored"]}
    request = {"files": entries, "data": images, "settings": asdict(settings)}
    key = _digest(json.dumps(request, sort_keys=True).encode() + _source_digest().encode())
    return Parcel(key, request, files, tuple(models))


def unpack(parcel: Parcel, result: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return a device's result with this machine's names for the files, and the device's own."""
    rows = [dict(row) for row in result["models"]]
    numbered = {str(n): path for n, path in enumerate(parcel.originals)}
    for row in rows:
        there = Path(row["file"])
        here = numbered.get(there.parent.name, there)
        if "error" in row:
            row["error"] = row["error"].replace(str(there), str(here))
        row["file"] = str(here)
    return seal({**result, "device": device, "models": rows})


def parse_message(line: str) -> dict[str, Any]:
    """Return what the agent tells in a line; nothing if those are an interpreter's own words."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def runtime_wheel(folder: Path) -> Path:
    """Build a wheel of the installed runtime in `folder`; equal sources give an equal name.

    Its name carries the digest of its sources as a local version, so that a device knows
    whether it has them.
    """
    from importlib.metadata import distribution

    version = f"{runtime.__version__}+{_source_digest()[:12]}"
    info = f"edgecifar_runtime-{version}.dist-info"
    metadata = distribution("edgecifar-runtime").read_text("METADATA") or ""
    lines = [f"Version: {version}" if x.startswith("Version:") else x for x in metadata.split("\n")]
    content = {f"edgecifar/runtime/{name}": data for name, data in _sources().items()}
    content[f"{info}/METADATA"] = "\n".join(lines).encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: edgecifar\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    content[f"{info}/RECORD"] = "".join(
        f"{name},,\n" for name in (*content, f"{info}/RECORD")
    ).encode()
    path = folder / f"edgecifar_runtime-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in content.items():
            wheel.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return path


def _sources() -> dict[str, bytes]:
    """Return the runtime's own modules by their path below its package."""
    root = Path(runtime.__file__).parent
    packages = (root, root / "commands")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for package in packages
        for path in sorted(package.glob("*.py"))
    }


def _source_digest() -> str:
    state = hashlib.sha256()
    for name, data in _sources().items():
        state.update(f"{name} {len(data)}\n".encode() + data)
    return state.hexdigest()


def _images(models: Sequence[Path], data: Path, settings: Settings, folder: Path) -> dict[str, Any]:
    """Write the test images at each size that a model takes; describe them for the agent."""
    sizes = dict.fromkeys(filter(None, (_image_size(path) for path in models)))
    if not sizes:
        raise EdgecifarError("no model can be read here: check the files with `edgecifar info`")
    stored = []
    for size in sorted(sizes, reverse=True):  # the smallest tells of the images, as `bench` has it
        labelled = _first(read_labelled(data, image_size=size), settings.images)
        order = _digest(labelled.labels.tobytes())  # to which the fingerprint is blind
        identity = f"{labelled.fingerprint[:_HASH_LETTERS]}-{order[:_ORDER_LETTERS]}"
        name = f"images-{identity}-{len(labelled.labels)}-{size[0]}x{size[1]}.npz"
        np.savez_compressed(folder / name, images=labelled.images, labels=labelled.labels)
        stored.append(name)
    return {"stored": stored, **describe(labelled)}


def _first(labelled: Labelled, count: int | None) -> Labelled:
    from dataclasses import replace

    return replace(labelled, images=labelled.images[:count], labels=labelled.labels[:count])


def _image_size(path: Path) -> tuple[int, int] | None:
    try:
        return Classifier(modelfile.read(path)).image_shape[:2]
    except EdgecifarError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_HASH_LETTERS]
