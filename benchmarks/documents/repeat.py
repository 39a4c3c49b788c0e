"""Add what another seed reached to a model that ships, so that luck shows.

`python -m edgecifar.benchmarks.documents.repeat nano runs/zoo-nano-seed2` needs the folder of the
repeat alone, not that of the run that shipped. Run it from the repository's root.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from edgecifar.benchmarks.documents import readme
from edgecifar.benchmarks.finished import Finished, read_finished
from edgecifar.benchmarks.program import Program
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import zoo
from edgecifar.train.files import write_json
from edgecifar.train.parsing import completed, did_you_mean
from edgecifar.train.settings import Training

BRIEF = ("top1", "low", "high", "n")  # figures that are told of a repeat
_SAME = (
    "stage", "architecture", "recipe", "transfer", "keep_float", "teacher", "classes",
    "image_size", "dataset",
)  # fmt: skip


def with_repeats(entry: Mapping[str, Any], repeats: Iterable[Finished]) -> dict[str, Any]:
    """Return the entry of a shipped model with the seeds and accuracies of `repeats` added.

    Raises EdgecifarError if one isn't the same recipe, or has a seed that is there already.
    """
    told = list(entry["repeats"])
    for repeat in repeats:
        _require_same(entry, repeat)
        seed = repeat.original.info["seed"]
        if seed in (entry["float"]["run"]["seed"], *(known["seed"] for known in told)):
            raise EdgecifarError(
                f"{repeat.folder} has the same seed, {seed}, as another run of {entry['name']}: "
                "repeat the recipe with one of its own"
            )
        figures = {"float": repeat.original.metrics["test"], "int8": repeat.answers}
        brief = {which: {key: row[key] for key in BRIEF} for which, row in figures.items()}
        told.append({"seed": seed, **brief})
    return {**entry, "repeats": told}


def _require_same(entry: Mapping[str, Any], repeat: Finished) -> None:
    shipped = entry["float"]["sha256"]
    for which, run in (("float", repeat.original), ("int8", repeat.quantized)):
        ours = _asked(entry[which]["run"], shipped)
        theirs = _asked(run.info, repeat.original.digest)
        for key in _SAME:
            if ours.get(key) != theirs.get(key):
                raise EdgecifarError(f"{repeat.folder} has another {key}: it is no repeat")


def _asked(info: Mapping[str, Any], original: str) -> dict[str, Any]:
    """Return what run.json says, with settings that it is too old to have.

    Of a net that taught itself it doesn't matter which one that was, nor what images are called.
    """
    taught = info.get("teacher") or {}
    itself = taught.get("models") == [original]
    return {
        **info,
        "recipe": completed(Training, info["recipe"]),
        "dataset": info["dataset"]["fingerprint"],
        "teacher": taught | ({"models": None} if itself else {}),
    }


@click.command(cls=Program)
@click.argument("name")
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
def main(name: str, runs: tuple[Path, ...]) -> None:
    """Add RUNS, its recipe carried out with other seeds, to the shipped model NAME."""
    root = Path.cwd()
    folder = root / "train" / "zoo"
    if name not in zoo.names(folder):
        raise EdgecifarError(f"no model {name!r} ships{did_you_mean(name, zoo.names(folder))}")
    path = folder / f"{name}.json"
    write_json(path, with_repeats(zoo.read(path).info, map(read_finished, runs)))
    for written in (path, *readme.write_documents(root)):
        click.echo(f"wrote {written.relative_to(root)}")


if __name__ == "__main__":
    main()
