"""Model files from elsewhere: what they are, what stands in our way, and the model in them."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.contents import require_known
from edgecifar.train.files import sha256
from edgecifar.train.keras_files import first_line, load_model

if TYPE_CHECKING:
    import tf_keras as keras

_DAMAGED = "is cut short or damaged: copy it again"
_GIVE = "give a .keras or .h5 file or a SavedModel folder"
_TORCH = (
    "a PyTorch file",
    "build the network in Keras, or export it as ONNX, which `edgecifar bench` and `classify` take",
)
_OTHERS = {  # by their endings: what they are, and the way out
    ".onnx": ("an ONNX file", _GIVE),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".pb": ("one file of a SavedModel, whose folder is wanted", _GIVE),
}


@dataclass(frozen=True)
class Description:
    """What a file says of the model in it: all of its Keras config, and who wrote it."""

    config: dict[str, Any]
    keras_version: str = "2"

    @property
    def is_keras3(self) -> bool:
        """Whether Keras 3 wrote it, whose files Keras 2 can't read."""
        return self.keras_version.startswith("3.")


def is_model(path: Path) -> bool:
    """Tell whether `path` looks like a model rather than a run: a file, or a SavedModel folder."""
    return path.is_file() or (path / "saved_model.pb").is_file()


def read_model(path: Path) -> "keras.Model":
    """Return the Keras 2 model in a .keras or .h5 file or a SavedModel folder, uncompiled.

    Files of Keras 3 are translated. No code from the file is run. Raises EdgecifarError that says
    what the file is instead of a model, or which layer can't be had, and the way out.
    """
    from edgecifar.train.adopt.keras3 import load_keras3

    if not path.exists():
        raise EdgecifarError(f"{path} is missing")
    description = describe(path)
    require_known(description.config, path, translated=description.is_keras3)
    if description.is_keras3:
        return load_keras3(path, description.keras_version)
    return load_model(path)


def digest(path: Path) -> str:
    """Return the SHA-256, hex, of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return sha256(path)
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return whole.hexdigest()


def describe(path: Path) -> Description:
    """Return what the model file at `path` says of itself; EdgecifarError if it is none of ours."""
    if path.is_dir():
        return _describe_saved_model(path)
    with path.open("rb") as file:
        head = file.read(8)
    # A file may be both, and is loaded as what its name says.
    if path.name.endswith(".keras") and (head[:2] == b"PK" or zipfile.is_zipfile(path)):
        return _describe_zip(path)
    if head == b"\x89HDF\r\n\x1a\n":
        return _describe_hdf5(path)
    if head[:2] == b"PK" and path.suffix.lower() not in _OTHERS:
        _describe_zip(path)
        raise EdgecifarError(f"{path} is a .keras file under another name: give it that ending")
    if head[4:] == b"TFL3":
        raise EdgecifarError(
            f"{path} is a TFLite file, which can't be trained on: give the Keras model that it "
            "was made from"
        )
    what, mend = _OTHERS.get(path.suffix.lower(), ("no model of Keras", _GIVE))
    raise EdgecifarError(f"{path} is {what}: {mend}")


def _describe_hdf5(path: Path) -> Description:
    import h5py

    try:
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise EdgecifarError(
                    f"{path} holds weights without a network: build the model, load them into it "
                    "and write both with model.save"
                )
            version = _text(file.attrs.get("keras_version", "2"))
            return _described(json.loads(_text(file.attrs["model_config"])), version)
    except (OSError, ValueError) as error:
        raise EdgecifarError(f"{path} {_DAMAGED}") from error


def _described(config: Any, version: Any) -> Description:
    """Return the description; ValueError unless it has the form of one."""
    if not (isinstance(config, dict) and isinstance(config.get("class_name"), str)):
        raise ValueError("the config describes no model")
    return Description(config, str(version))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _describe_zip(path: Path) -> Description:
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            version = json.loads(archive.read("metadata.json"))["keras_version"]
            return _described(config, version)
    except zipfile.BadZipFile as error:
        raise EdgecifarError(f"{path} {_DAMAGED}") from error
    except (KeyError, ValueError) as error:
        raise EdgecifarError(
            f"{path} is a zip file without a Keras model in it: {_GIVE}"
        ) from error


def _describe_saved_model(path: Path) -> Description:
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = path / "keras_metadata.pb"
    if not metadata.is_file():
        raise EdgecifarError(
            f"{path} is a SavedModel without Keras' layers in it, a mere graph as model.export "
            "writes: give the .keras or .h5 file of the model"
        )
    try:
        nodes = saved_metadata_pb2.SavedMetadata.FromString(metadata.read_bytes()).nodes
        # Each layer is revived from a node of its own; metrics serve training alone.
        entries = {
            node.node_path: json.loads(node.metadata)
            for node in nodes
            if node.identifier != "_tf_keras_metric"
        }
        root = entries.pop("root")
        return Description(root | {"nodes": list(entries.values())})
    except Exception as error:
        raise EdgecifarError(f"{path} {_DAMAGED} ({first_line(error)})") from error
