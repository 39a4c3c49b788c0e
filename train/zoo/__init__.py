"""The float models that ship with edgecifar: each a Keras file and an entry that pins it.

An entry, NAME.json, holds the SHA-256 of the Keras file NAME.h5 and of the int8 file that ships in
the runtime, and of both the run as it was: recipe, seed, versions, training time and all figures.
`python -m edgecifar.benchmarks.documents.ship` writes entries; NAME.md is the model's card.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder
from edgecifar.train.files import read_json, write_json, write_whole
from edgecifar.train.run import Run

SCHEMA = 1
FOLDER = Path(__file__).parent
MEASURED = "measured.json"  # the best measured accuracy of each architecture


class Original(Run):
    """The float model of a shipped one as a run in the cache: what is made of it goes elsewhere."""

    @property
    def exports(self) -> Path:
        """The working folder."""
        return Path()

    @property
    def findings(self) -> Path:
        """A folder where runs are that no run of ours has."""
        return Path("runs") / f"{self.name}-shipped"

    def beside(self, name: str) -> Path:
        """Return a folder where `edgecifar train` puts runs."""
        return Path("runs") / name


@dataclass(frozen=True)
class Shipped:
    """A model that ships: `info` is its entry, `folder` where entry and Keras file lie."""

    info: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """The name that commands know it by."""
        return self.info["name"]

    @property
    def architecture(self) -> str:
        """The architecture that was trained."""
        return self.info["float"]["run"]["architecture"]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of its images in pixels."""
        return tuple(self.info["float"]["run"]["image_size"])

    def test(self, which: str) -> dict[str, Any]:
        """Return the figures of the `float` or the `int8` model on the test images."""
        return self.info[which]["metrics"]["test"]

    def open_run(self) -> Original:
        """Return the float model as a finished run in the cache folder.

        Raises EdgecifarError if the Keras file isn't the one that the entry pins.
        """
        pinned = self.info["float"]
        source = self.folder / pinned["file"]
        model = source.read_bytes() if source.exists() else b""
        digest = hashlib.sha256(model).hexdigest()
        if digest != pinned["sha256"]:
            raise EdgecifarError(
                f"{source} is not the file that shipped (its SHA-256 differs): install edgecifar "
                "again"
            )
        run = Original(cache_folder() / "zoo" / digest[:16] / self.name)
        stored = run.path / "model.h5"
        # After an upgrade the same model may have another entry.
        same = run.complete and run.info == pinned["run"] and stored.read_bytes() == model
        # Figures that were measured again since stay.
        if not same or not pinned["metrics"].keys() <= run.metrics.keys():
            write_whole(run.path, lambda partial: self._lay_out(Run(partial), model))
        return run

    def _lay_out(self, run: Run, model: bytes) -> None:
        pinned = self.info["float"]
        write_json(run.path / "run.json", pinned["run"])
        (run.path / "model.h5").write_bytes(model)
        run.save_metrics(pinned["metrics"])


def names(folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of the models that ship, or of those in `folder`."""
    folder = folder or FOLDER
    return tuple(sorted(path.stem for path in folder.glob("*.json") if path.name != MEASURED))


def find(name: str) -> Shipped | None:
    """Return the model called `name`, None if no such model ships."""
    return read(FOLDER / f"{name}.json") if name in names() else None


def entries(folder: Path | None = None) -> tuple[Shipped, ...]:
    """Return all models that ship, or those in `folder`, the smallest int8 file first."""
    found = (read((folder or FOLDER) / f"{name}.json") for name in names(folder))
    return tuple(sorted(found, key=lambda shipped: shipped.info["int8"]["payload_bytes"]))


def read(path: Path) -> Shipped:
    """Read the entry at `path`."""
    info = read_json(path)
    if info.get("schema") != SCHEMA:
        raise EdgecifarError(
            f"{path} has schema {info.get('schema')} and this edgecifar reads {SCHEMA}: install "
            "edgecifar again"
        )
    return Shipped(info, path.parent)


def measured() -> dict[str, dict[str, Any]]:
    """Return the best measured top-1 of architectures on CIFAR-10's test images, by name."""
    path = FOLDER / MEASURED
    return read_json(path)["architectures"] if path.exists() else {}
