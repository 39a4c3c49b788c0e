"""What a recipe that trains and quantizes has left in its folder, with the figures of its files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecifar.runtime import modelfile, results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.train.evaluate import answer_metrics
from edgecifar.train.run import Run, open_run


@dataclass(frozen=True)
class Finished:
    """A recipe that was carried out: its float run, its quantized run and the int8 file."""

    folder: Path
    original: Run
    quantized: Run
    file: ModelFile  # int8
    answers: dict[str, Any]  # figures of the int8 file on the test images
    settings: dict[str, Any]  # of the recipe, as JSON has them

    @property
    def name(self) -> str:
        """The name that the models ship by."""
        return self.original.name


def read_finished(folder: Path) -> Finished:
    """Read the folder of a recipe; EdgecifarError unless all figures of the test are there."""
    bench = results.read(folder / "bench.json")
    runs = [open_run(folder / name) for name in bench.get("runs", ())]  # others may lie there
    original = _only(folder, "trained", [run for run in runs if run.info["parent"] is None])
    children = [run for run in runs if run.info["parent"] == original.name]
    quantized = _only(folder, "quantized", [r for r in children if r.info["stage"] == "quantize"])
    for run in (original, quantized):
        if "test" not in run.metrics:
            raise EdgecifarError(
                f"{run.path} has no figures of the test images: let `edgecifar run` end"
            )
    if quantized.info["parent_model"] != original.digest:
        raise EdgecifarError(
            f"{quantized.path} was made of another model than {original.path} is now: let "
            "`edgecifar run` end with --force"
        )
    file = modelfile.read(quantized.path / "exports" / f"{quantized.name}-int8.tflite")
    answers = _answers(folder, bench, file)
    return Finished(folder, original, quantized, file, answers, bench["recipe"])


def _only(folder: Path, what: str, runs: list[Run]) -> Run:
    if len(runs) != 1:
        raise EdgecifarError(
            f"{folder} holds {len(runs)} {what} runs, not one: give the folder of a recipe that "
            "`edgecifar run` has carried out"
        )
    return runs[0]


def _answers(folder: Path, bench: dict[str, Any], file: ModelFile) -> dict[str, Any]:
    """Work out the figures of `file` from its answers to every test image."""
    for row in bench["models"]:
        if row.get("sha256") == file.sha256 and row.get("accuracy"):
            data = bench["data"]
            count = len(data["classes"])
            predicted = results.unpack_classes(row["accuracy"]["predicted"], count)
            labels = results.unpack_classes(data["labels"], count)
            figures = answer_metrics(predicted, labels, data["classes"])
            return figures | {"ece": row["accuracy"].get("ece")}
    raise EdgecifarError(
        f"the bench.json of {folder} has not measured {file.path}: repeat `edgecifar run`"
    )
