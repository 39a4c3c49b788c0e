"""A run is a folder: what was asked for, what happened, and the model that came out."""

import datetime
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import read_json, write_json, write_whole
from edgecifar.train.keras_files import load_model, save_model

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

SCHEMA = 1
_PACKAGES = (
    "edgecifar",
    "tensorflow",
    "tf-keras",
    "tensorflow-model-optimization",
    "numpy",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
)


@dataclass(frozen=True)
class Run:
    """A run's folder. Its last name is the run's name, such as `resnet8-qat`."""

    path: Path

    @property
    def name(self) -> str:
        """The name that reports and exported files carry."""
        return self.path.name

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says."""
        return read_json(self.path / "run.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of each evaluated split, by its name; empty before the end of the run."""
        path = self.path / "metrics.json"
        return read_json(path) if path.exists() else {}

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "model.h5").exists() and bool(self.metrics)

    def load_model(self) -> "keras.Model":
        """Return the run's float32 Keras model, uncompiled."""
        return load_model(self.path / "model.h5")

    def save_model(self, model: "keras.Model") -> None:
        """Write the model."""
        write_whole(self.path / "model.h5", partial(save_model, model))

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the figures of splits, beside those of other splits."""
        write_json(self.path / "metrics.json", self.metrics | metrics)

    def save_predictions(self, split: str, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Write the probabilities of a split, for paired comparisons and plots."""
        arrays = {"probabilities": probabilities, "labels": labels}
        write_whole(
            self.path / f"predictions-{split}.npz",
            lambda path: np.savez_compressed(path, **arrays),
        )

    def require_data(self, dataset: "Dataset") -> None:
        """Raise EdgecifarError if `dataset` is not the one that the run was trained on."""
        known = self.info["dataset"]
        if known["fingerprint"] != dataset.fingerprint:
            raise EdgecifarError(
                f"{self.name} was trained on {known['name']} ({known['fingerprint'][:12]}), these "
                f"data are {dataset.name} ({dataset.fingerprint[:12]}): give the same --data"
            )

    def update(self, **values: Any) -> None:
        """Add entries to run.json."""
        write_json(self.path / "run.json", self.info | values)


def open_run(path: Path) -> Run:
    """Return the finished run at `path`, or say what is missing."""
    run = Run(path)
    if not (path / "run.json").exists():
        raise EdgecifarError(f"{path} is not a run: give a folder that `edgecifar train` wrote")
    if not run.complete:
        raise EdgecifarError(f"the run {path} is unfinished: repeat the command that began it")
    return run


def start_run(path: Path, identity: dict[str, Any], dataset: "Dataset", *, force: bool) -> Run:
    """Begin the run that `identity` describes at `path`, or take it up where it was left.

    `identity` is what makes two runs the same (architecture, stage, recipe, seed, parent). A
    folder with another identity or a finished run is only replaced with `force`.
    """
    run = Run(path)
    identity = {"schema": SCHEMA, "name": run.name, **identity} | {
        "classes": list(dataset.classes),
        "image_size": list(dataset.train.images.shape[1:3]),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
    }
    if path.exists() and force:
        shutil.rmtree(path)
    if not path.exists():
        write_json(path / "run.json", identity | _provenance())
        return run
    if not (path / "run.json").exists():
        raise EdgecifarError(f"{path} exists and is not a run: choose another --out")
    _require_same(run, identity)
    if run.complete:
        raise EdgecifarError(f"the run {path} is finished: --force starts it again")
    return run


def is_finished(path: Path) -> bool:
    """Tell whether a finished run stands at `path`."""
    return (path / "run.json").exists() and Run(path).complete


def _require_same(run: Run, identity: dict[str, Any]) -> None:
    info = run.info
    for key, value in identity.items():
        if info.get(key) != value:
            raise EdgecifarError(
                f"{run.path} was begun with {key} {_brief(info.get(key))}, not {_brief(value)}: "
                "--force starts it again, --out puts this one elsewhere"
            )


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _provenance() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "created": now.isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
    }
