"""Run a recipe from end to end: train, compress, export, evaluate, benchmark, report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecifar.benchmarks.chain import Chain, announce
from edgecifar.benchmarks.recipe import Recipe, teaching_of
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_json
from edgecifar.train.run import Run

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset


@dataclass(frozen=True)
class Outcome:
    """Where a recipe's results lie."""

    runs: tuple[Path, ...]
    files: tuple[Path, ...]  # exported models, the float original first
    bench: Path
    report: Path


def run_recipe(recipe: Recipe, dataset: "Dataset", out: Path, *, force: bool = False) -> Outcome:
    """Carry out `recipe` in the folder `out`, skipping what is finished there already.

    The runs are its subfolders; bench.json and report.html are written anew. What stands there
    from another recipe is an error, or is made anew with `force`: see `Chain`. The test images are
    read once a model, after all choices were made on validation images.
    """
    from edgecifar.benchmarks.report.build import build_report
    from edgecifar.benchmarks.report.publish import pictures_of
    from edgecifar.train.evaluate import evaluate_run

    runs, files = {}, []
    for made in Chain(recipe, dataset, out, force).runs():
        runs[made.run.path] = made.run
        files += _export(made.run, dataset, made.formats)
    for run in runs.values():
        if "test" not in run.metrics:
            announce(f"evaluating {run.name} on the test images")
            evaluate_run(run, dataset, "test")
    measured = out / "bench.json"
    write_json(measured, _measure(recipe, files, list(runs.values()), dataset))
    report = build_report(
        tuple(runs),
        [measured],
        out / "report.html",
        title=recipe.title,
        **pictures_of(dataset),
    )
    return Outcome(tuple(runs), tuple(files), measured, report)


def is_finished(
    is_wanted: Callable[[Mapping[str, Any]], bool], dataset: "Dataset", out: Path
) -> bool:
    """Tell whether `run_recipe` came to its end in `out` with a wanted recipe and these images.

    `is_wanted` is told the recipe as JSON has it, as `Recipe.is_that_of` is.
    Its bench, the last that is measured, says of which recipe and of which models it is; these
    must still be there.
    """
    try:
        bench = results.read(out / "bench.json")
    except EdgecifarError:
        return False
    models = bench.get("runs")
    if not models or any("error" in row for row in bench["models"]):
        return False
    measured = bench["data"]  # of which older versions told the whole set's fingerprint alone
    if measured.get("dataset_fingerprint", measured["fingerprint"]) != dataset.fingerprint:
        return False
    runs = {Run(out / name): digest for name, digest in models.items()}
    return is_wanted(bench["recipe"]) and all(
        run.complete and run.digest == digest for run, digest in runs.items()
    )


def _measure(
    recipe: Recipe, files: list[Path], runs: list[Run], dataset: "Dataset"
) -> dict[str, Any]:
    """Return the sealed bench of `files` with the recipe, and the models that they were made of."""
    from edgecifar.runtime.benchmark import Settings, bench
    from edgecifar.runtime.labelled import in_memory

    announce("measuring accuracy and latency")
    test = in_memory(dataset.test.images, dataset.test.labels, dataset.classes, dataset.name)
    result = bench(files, data=test, settings=Settings((recipe.threads,)))
    for row in result["models"]:
        if "error" in row:
            raise EdgecifarError(f"{row['name']} can't be measured: {row['error']}")
    made = {run.name: run.digest for run in runs}
    told = recipe.as_json() | teaching_of(runs[0].info)
    data = result["data"] | {"dataset_fingerprint": dataset.fingerprint}
    return results.seal(result | {"data": data, "recipe": told, "runs": made})


def _export(run: Run, dataset: "Dataset", formats: tuple[str, ...]) -> list[Path]:
    from edgecifar.compress.export import export

    if not formats:
        return []
    announce(f"exporting {run.name} as {', '.join(formats)}")
    return [item.path for item in export(run, dataset, formats, force=True)]
