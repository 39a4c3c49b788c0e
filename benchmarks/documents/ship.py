"""Ship the models of a finished recipe: the float original, the int8 file, and their entry.

`python -m edgecifar.benchmarks.documents.ship runs/zoo-nano` copies the Keras file to train/zoo and
the int8 file to runtime/models, and writes down where they come from. All of it is taken from the
files of the run. Run it from the repository's root.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.documents import readme
from edgecifar.benchmarks.documents.repeat import BRIEF, with_repeats
from edgecifar.benchmarks.finished import Finished, read_finished
from edgecifar.benchmarks.program import Program
from edgecifar.benchmarks.targets import read_targets
from edgecifar.compress.confidence import divisor
from edgecifar.runtime import modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import read
from edgecifar.train import zoo
from edgecifar.train.files import sha256, write_json, write_whole
from edgecifar.train.run import Run


@dataclass(frozen=True)
class Limits:
    """What an int8 file must keep to, bytes without metadata, and the top-1 it should reach."""

    payload_bytes: float = float("inf")
    top1: float = 0.0


def stated_limits(results: Path) -> dict[str, Limits]:
    """Return what the targets in `results` ask of shipped models, by their names.

    Bytes are asked there as a share of another file's, whose size is in the result beside them.
    """
    found: dict[str, Limits] = {}
    for path in (results / f"{name}.toml" for name in (readme.SHIPPED, readme.UNTRAINED)):
        rows = read(path.with_suffix(".json"))["models"]
        sizes = {Path(row["file"]).name: row["payload_bytes"] for row in rows}
        for target in read_targets(path):
            name, asked = Path(target.file).stem, {}
            if target.bytes is not None:
                asked["payload_bytes"] = target.bytes * sizes[target.against]
            if target.top1 is not None:
                asked["top1"] = target.top1
            found[name] = replace(found.get(name, Limits()), **asked)
    return found


def require_within_limits(
    finished: Finished, stated: Mapping[str, Limits], *, below_goal: bool = False
) -> None:
    """Raise EdgecifarError if the int8 file is larger than its class allows, or errs more often.

    `stated` are the limits of each class. With `below_goal` its accuracy is not asked for.
    """
    name = finished.name.partition("-")[0]  # `small-rep` is a `small` too
    limits = stated.get(name, Limits())
    size, top1 = len(finished.file.payload), finished.answers["top1"]
    if size > limits.payload_bytes:
        raise EdgecifarError(
            f"{finished.file.path} has {size:,} bytes without metadata, and {finished.name} may "
            f"have {limits.payload_bytes:,.0f}: make the network smaller"
        )
    if top1 < limits.top1 and not below_goal:
        raise EdgecifarError(
            f"{finished.file.path} reaches {top1:.2f} %, less than the {limits.top1} % of "
            f"{finished.name}: train it better, or ship it with --below-goal"
        )


def ship(
    folder: Path,
    repeats: Iterable[Path],
    models: Path,
    originals: Path,
    *,
    limits: Mapping[str, Limits],
    below_goal: bool = False,
    remark: str | None = None,
) -> Path:
    """Copy the models of a recipe's `folder` into place; return the entry written.

    `models` takes int8 files, `originals` the rest. `repeats` are folders of the same recipe
    carried out with other seeds, which show how far luck goes; `limits` are those of each class of
    models, see `require_within_limits`; `remark` is what else a reader of its card should know of
    this run. Raises EdgecifarError before anything is copied if the int8 file breaks its limits.
    """
    finished = read_finished(folder)
    require_within_limits(finished, limits, below_goal=below_goal)
    name = finished.name
    source = finished.original.path / "model.h5"
    int8, original = models / f"{name}.tflite", originals / f"{name}.h5"
    entry = {
        "schema": zoo.SCHEMA,
        "name": name,
        "recipe": _recipe_name(finished),
        "float": {
            "file": original.name,
            "sha256": sha256(source),
            "bytes": source.stat().st_size,
            "run": _as_shipped(finished.original),
            "metrics": finished.original.metrics,
        },
        "int8": {
            "file": int8.name,
            "sha256": finished.file.sha256,
            "payload_bytes": len(finished.file.payload),
            "run": _as_shipped(finished.quantized),
            "metrics": {
                "validation": finished.quantized.metrics["validation"],
                "test": finished.answers,
            },
        },
        "repeats": [],
    } | ({"remark": remark} if remark else {})
    entry = with_repeats(entry, map(read_finished, repeats))
    write_whole(int8, partial(_copy_described, finished))
    write_whole(original, partial(shutil.copyfile, source))
    write_json(originals / f"{name}.json", entry)
    return originals / f"{name}.json"


def _as_shipped(run: Run) -> dict[str, Any]:
    """Return run.json with what its answers to the validation images, which don't ship, tell."""
    return run.info | {"divisor": divisor(run)}


def _recipe_name(finished: Finished) -> str | None:
    """Return which of edgecifar's recipes makes this again, None if it was a user's own."""
    name = finished.folder.name
    if name not in recipes.names():
        return None
    if not recipes.read(name).is_that_of(finished.settings):
        raise EdgecifarError(
            f"{finished.folder} was not made by the recipe {name} as it is now: carry that out, or "
            "give the folder another name"
        )
    return name


def _copy_described(finished: Finished, path: Path) -> None:
    """Copy the int8 file; what it says of its accuracy becomes that on all test images."""
    shutil.copyfile(finished.file.path, path)
    figures = {"float": finished.original.metrics["test"], "this": finished.answers}
    accuracy = {
        which: {key: value[key] for key in BRIEF} | {"split": "test"}
        for which, value in figures.items()
    }
    described = finished.file.metadata | {"name": finished.name, "accuracy": accuracy}
    modelfile.append(path, described, finished.file.labels)


@click.command(cls=Program)
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--repeat",
    "repeats",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The same recipe carried out with another seed; may be repeated.",
)
@click.option("--below-goal", is_flag=True, help="Ship it though it errs more often than it may.")
@click.option("--remark", help="A sentence for the card, on what its reader can't see otherwise.")
def main(run: Path, repeats: tuple[Path, ...], below_goal: bool, remark: str | None) -> None:
    """Ship the models in RUN, the folder of a finished recipe."""
    root = Path.cwd()
    places = root / "runtime" / "models", root / "train" / "zoo"
    limits = stated_limits(root / "benchmarks" / "results")
    how = {"limits": limits, "below_goal": below_goal, "remark": remark}
    written = [ship(run, repeats, *places, **how)]
    written += readme.write_documents(root)
    for path in written:
        click.echo(f"wrote {path.relative_to(root)}")


if __name__ == "__main__":
    main()
