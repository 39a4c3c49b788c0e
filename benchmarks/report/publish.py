"""A report in all the forms that were asked for: all of its files or none."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.benchmarks.report.build import load, page, results_csv, results_markdown
from edgecifar.benchmarks.report.grid import sample_rows
from edgecifar.benchmarks.report.load import Run, sort_inputs
from edgecifar.benchmarks.report.study_load import load_study
from edgecifar.benchmarks.report.study_page import study_csv, study_markdown, study_page
from edgecifar.benchmarks.study.result import is_result
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing, replace_file

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset


def publish(
    inputs: Iterable[Path],
    out: Path,
    *,
    title: str | None = None,
    data: Path | None = None,
    markdown: Path | None = None,
    csv: Path | None = None,
    targets: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Write the page, and Markdown and CSV where a path is given; return what was written.

    `inputs` are run folders and bench results in any order, or a study's result, with or without
    run folders of it. `data` is the data set of the runs; without it no page holds an image.
    `targets` is a TOML file of what files of the only bench were to reach; without it that of the
    bench's own name beside it is taken, if there is one.
    Everything is worked out before the first file is written.
    """
    wanted = {"html": out, "markdown": markdown, "csv": csv}
    paths = {form: path for form, path in wanted.items() if path}
    for path in paths.values():
        refuse_existing(path, force=force)
    folders, files = sort_inputs(inputs)
    of_study = any(is_result(path) for path in files)
    if of_study and targets:
        raise EdgecifarError(f"a study states itself what was asked: leave out {targets}")
    if of_study:
        make = _of_study(folders, files, title, data)
    else:
        make = _of_runs(folders, files, title, data, targets)
    texts = {form: make[form]() for form in paths}
    for form, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, texts[form].encode())
    return list(paths.values())


def _of_runs(
    folders: Sequence[Path],
    files: Sequence[Path],
    title: str | None,
    data: Path | None,
    targets: Path | None,
) -> dict[str, Callable[[], str]]:
    runs, benches = load(folders, files, targets)
    pictures = pictures_of(dataset_of(data, runs)) if data else {}
    return {
        "html": lambda: page(runs, benches, title=title, **pictures),
        "markdown": lambda: results_markdown(runs, benches),
        "csv": lambda: results_csv(runs, benches),
    }


def _of_study(
    folders: Sequence[Path],
    files: Sequence[Path],
    title: str | None,
    data: Path | None,
) -> dict[str, Callable[[], str]]:
    if len(files) > 1:
        raise EdgecifarError("a study has a page of its own: give one result, and run folders")
    study = load_study(files[0], folders)
    runs = [one.run for system in study.members for one in system.repetitions]
    pictures = pictures_of(dataset_of(data, runs)) if data else {}
    return {
        "html": lambda: study_page(study, title=title, **pictures),
        "markdown": lambda: study_markdown(study),
        "csv": lambda: study_csv(study),
    }


def dataset_of(data: Path, runs: Iterable[Run]) -> "Dataset":
    """Load the data set at `data`, which must be that of all `runs`."""
    from edgecifar.train.data import load as load_data

    runs = list(runs)
    size = next((tuple(run.info["image_size"]) for run in runs if run.info.get("image_size")), None)
    dataset = load_data(data, image_size=size, download=False)
    other = [run.name for run in runs if run.dataset.get("fingerprint") != dataset.fingerprint]
    if other:
        raise EdgecifarError(
            f"{data} is not the data set of {', '.join(other)}: leave out --data or those runs"
        )
    return dataset


def pictures_of(dataset: "Dataset") -> dict:
    """Return what of a data set a page shows: its test images, and rows of training images."""
    return {"images": dataset.test.images, "samples": sample_rows(dataset)}
