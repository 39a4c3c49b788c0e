"""A run is a folder: what was asked for, what happened, and the model that came out."""

import csv
import dataclasses
import datetime
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import (
    discard,
    named,
    read_json,
    require_idle,
    sha256,
    write_json,
    write_whole,
)
from edgecifar.train.keras_files import load_model, save_model
from edgecifar.train.parsing import completed
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

SCHEMA = 1
_LEFT = (".lock", ".run.json.")  # what a kill leaves of a start begin with
_OPTIONAL = ("transfer", "teacher")  # entries that not all runs of a stage have
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

    @property
    def digest(self) -> str:
        """SHA-256 of the model's file: what was made of another model is out of date."""
        return sha256(self.path / "model.h5")

    def as_parent(self) -> dict[str, str]:
        """Return how the identity of what is made of this run names it."""
        return {"parent": self.name, "parent_model": self.digest}

    @property
    def exports(self) -> Path:
        """The folder for exported files, unless another is asked for."""
        return self.path / "exports"

    def original(self, *stages: str) -> "Run | None":
        """Return the run that this one was made from, step by step; itself if it wasn't.

        With `stages` only steps of these kinds are taken back. None if a run on the way neither is
        beside this one nor ships, or is another by now.
        """
        run = self
        while run and run.info["parent"] and (not stages or run.info["stage"] in stages):
            run = run._parent()
        return run

    def _parent(self) -> "Run | None":
        """Return the run that this one was made of, if it is beside this one or ships."""
        from edgecifar.train import zoo  # whose entries become runs

        name, model = self.info["parent"], self.info.get("parent_model")
        if is_finished(path := self.beside(name)) and Run(path).digest == model:
            return Run(path)
        shipped = zoo.find(name)
        return shipped.open_run() if shipped and shipped.info["float"]["sha256"] == model else None

    @property
    def findings(self) -> Path:
        """The folder for what is found out about the run."""
        return self.path

    def beside(self, name: str) -> Path:
        """Return where a run called `name` that is made of this one goes."""
        return self.path.with_name(name)

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

    def predictions(self, split: str) -> "tuple[np.ndarray, np.ndarray] | None":
        """Read what `save_predictions` wrote: probabilities and labels; None if there is nothing.

        Raises EdgecifarError if the file is damaged.
        """
        path = self.path / f"predictions-{split}.npz"
        if not path.exists():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return arrays["probabilities"], arrays["labels"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise EdgecifarError(
                f"{path} is damaged: run `edgecifar evaluate --split {split}` again"
            ) from error

    def history(self) -> dict[str, np.ndarray]:
        """Read history.csv: a float array for each column, none if there is no such file.

        Raises EdgecifarError if it is damaged.
        """
        path = self.path / "history.csv"
        if not path.exists():
            return {}
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        try:
            columns = rows[0] if rows else ()
            return {key: np.array([float(row[key] or "nan") for row in rows]) for key in columns}
        except (TypeError, ValueError) as error:
            raise EdgecifarError(f"{path} is damaged: {error}: repeat the training") from error

    def require_data(self, dataset: "Dataset") -> None:
        """Raise EdgecifarError if `dataset` is not the one that the run was trained on."""
        from edgecifar.train.data.cache import CIFAR10_FINGERPRINT

        known = self.info["dataset"]
        if known["fingerprint"] == dataset.fingerprint:
            return
        mend, (height, width) = "give the same --data", self.info["image_size"]
        if (height, width) != dataset.image_size:
            mend += f", and --image-size {height}x{width}"
        elif known["fingerprint"] == CIFAR10_FINGERPRINT:  # used where no --data is given
            mend = (
                "name a place of CIFAR-10 with --data or EDGECIFAR_DATA, or download it with "
                "`edgecifar data fetch`"
            )
        raise EdgecifarError(
            f"{self.name} was trained on {known['name']} ({known['fingerprint'][:12]}), these "
            f"data are {dataset.name} ({dataset.fingerprint[:12]}): {mend}"
        )

    def update(self, **values: Any) -> None:
        """Add entries to run.json."""
        write_json(self.path / "run.json", self.info | values)


class RunFinishedError(EdgecifarError):
    """The run that is to be started is there already, made by the same recipe."""

    def __init__(self, run: Run):
        super().__init__(f"the run {run.path} is finished: --force starts it again")
        self.run = run


class RunDiffersError(EdgecifarError):
    """Another run stands where one is to be started."""


def open_run(path: Path) -> Run:
    """Return the finished run at `path`, or say what is missing.

    Where no such run is, the name of a model that ships stands for its float original.
    """
    run = Run(path := named(path))
    if not (path / "run.json").exists():
        from edgecifar.train import zoo

        if shipped := zoo.find(str(path)):
            return shipped.open_run()
        if path.suffix and not path.exists():
            raise EdgecifarError(f"{path} is missing: check the path")
        raise EdgecifarError(
            f"{path} is not a run: give a folder that `edgecifar train` wrote, or a model file"
        )
    if not run.complete:
        raise EdgecifarError(
            f"the run {path} is unfinished: repeat the command that began it, without --force"
        )
    return run


def start_run(
    path: Path,
    dataset: "Dataset",
    settings: Training,
    *,
    stage: str,
    seed: int,
    force: bool,
    parent: Run | None = None,
    **details: Any,
) -> Run:
    """Begin the run at `path` that does `stage` with `settings`, or take it up where it was left.

    All that is given but `force` is what makes two runs the same; `details` are further entries of
    run.json that do, among them the `architecture`, which is the parent's if there is one. A
    folder with another identity or a finished run is only replaced with `force`: without it,
    RunDiffersError and RunFinishedError are raised. Nothing replaces a folder that is no run, or
    one that holds a model of which this run is made, or one in which another process is at work:
    EdgecifarError is raised.
    """
    run = Run(path := named(path))
    origin = {"architecture": parent.info["architecture"]} if parent else {}
    identity = {
        "schema": SCHEMA,
        "name": run.name,
        "stage": stage,
        **origin,
        "recipe": dataclasses.asdict(settings),
        "seed": seed,
        **(parent.as_parent() if parent else {"parent": None}),
        **details,
        "classes": list(dataset.classes),
        "image_size": list(dataset.train.images.shape[1:3]),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
    }
    _require_replaceable(run, identity, parent)
    if force:
        _require_no_other(path)
    if force or not path.exists():  # but a kill may have left some of it under another name
        require_idle(path)
        discard(path)
    if not (path / "run.json").exists():
        write_json(path / "run.json", identity | _provenance())
        return run
    _require_same(run, identity)
    if run.complete:
        raise RunFinishedError(run)
    _note_updates(run)
    return run


def is_finished(path: Path) -> bool:
    """Tell whether a finished run stands at `path`."""
    return (path / "run.json").exists() and Run(path).complete


def _require_replaceable(run: Run, identity: dict[str, Any], parent: Run | None) -> None:
    """Raise EdgecifarError where even `force` must not start a run."""
    path = run.path
    if not (path / "run.json").exists() and not is_unbegun(path):
        raise EdgecifarError(f"{path} exists and is not a run: choose another --out")
    around = parent is not None and parent.path.resolve().is_relative_to(path.resolve())
    if around or (run.complete and run.digest in _made_of(identity)):
        raise EdgecifarError(
            f"{path} holds the model that this run starts from: give another --out"
        )


def _require_no_other(path: Path) -> None:
    """Raise EdgecifarError if what is to be replaced at `path` holds other runs too."""
    files = (*path.glob("*/run.json"), *path.glob("*/*/run.json"))
    if other := next((file.parent for file in files), None):
        raise EdgecifarError(
            f"{path} holds other runs too, such as {other}: move them away, or give another --out"
        )


def is_unbegun(path: Path) -> bool:
    """Tell whether nothing is at `path`, or a folder with what a killed start left alone."""
    if not path.is_dir():
        return not path.exists()
    return all(entry.name.startswith(_LEFT) for entry in path.iterdir())


def _made_of(identity: Mapping[str, Any]) -> set[str]:
    """Return the SHA-256 of the models that a run starts or learns from."""
    teacher, transfer = identity.get("teacher") or {}, identity.get("transfer") or {}
    weights = transfer.get("weights")
    known = weights["sha256"] if isinstance(weights, Mapping) else None
    return {identity.get("parent_model"), *teacher.get("models", ()), known} - {None}


def _require_same(run: Run, identity: dict[str, Any]) -> None:
    asked = json.loads(json.dumps(identity))  # with lists for tuples, as the file has them
    info = run.info
    asked |= {key: None for key in _OPTIONAL if key not in asked}
    found = {key: info.get(key) for key in asked}
    found["recipe"] = completed(Training, found["recipe"])
    if found["dataset"]["fingerprint"] == asked["dataset"]["fingerprint"]:
        found["dataset"] = asked["dataset"]  # by whatever name
    for key, ours, theirs in _differences(asked, found):
        what = f"begun with {key} {_brief(theirs)}, not {_brief(ours)}"
        if key == "parent_model":
            what = f"made of another model than {identity['parent']} is now"
        raise RunDiffersError(
            f"{run.path} was {what}: --force starts it again, --out puts this one elsewhere"
        )


def _differences(asked: Mapping, found: Mapping, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, value asked for, value found) wherever the two disagree."""
    for key in (*asked, *(key for key in found if key not in asked)):
        ours, theirs = asked.get(key), found.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _differences(ours, theirs, f"{where}{key}.")
        elif ours != theirs:
            yield f"{where}{key}", ours, theirs


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _provenance() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"created": now.isoformat(timespec="seconds"), "versions": _versions()}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _note_updates(run: Run) -> None:
    """Add to the versions with which `run` was begun those with which it goes on."""
    noted = run.info["versions"]
    updates = {
        name: f"{noted[name]}, then {now}"
        for name, now in _versions().items()
        if name in noted and noted[name].rpartition(" ")[2] != now
    }
    if updates:
        run.update(versions=noted | updates)
