"""A report in all the forms that were asked for: all of its files or none."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks.report import build, study_page
from edgecifar.benchmarks.report.grid import sample_rows
from edgecifar.benchmarks.report.load import Bench, Run, sort_inputs
from edgecifar.benchmarks.report.page import render
from edgecifar.benchmarks.report.plots import svg_files
from edgecifar.benchmarks.report.study_load import load_study
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
    plots: Path | None = None,
    targets: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Write the page, and Markdown, CSV and drawings where a path is given; return those paths.

    `inputs` are run folders and bench results in any order, or a study's result, with or without
    run folders of it. `data` is the data set of the runs; without it no page holds an image.
    `targets` is a TOML file of what files of the only bench were to reach; without it that of the
    bench's own name beside it is taken, if there is one. `plots` is a folder, for an SVG file of
    each drawing of the page.
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
    texts = {path: make[form]() for form, path in paths.items()}
    if plots:
        texts |= {plots / name: text for name, text in make["plots"]().items()}
    for path in texts:
        refuse_existing(path, force=force)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    return [*paths.values(), *([plots] if plots and plots.exists() else [])]


def _of_runs(
    folders: Sequence[Path],
    files: Sequence[Path],
    title: str | None,
    data: Path | None,
    targets: Path | None,
) -> dict[str, Callable[[], Any]]:
    runs, benches = build.load(folders, files, targets)
    pictures = pictures_of(dataset_of(data, runs, benches)) if data else {}

    @cache
    def shown() -> dict[str, Any]:
        return build.contents(runs, benches, **pictures)

    title = build.full_title(runs, benches, title)
    return {
        "html": lambda: render("page.html", title=title, **shown()),
        "plots": lambda: svg_files(shown()),
        "markdown": lambda: build.results_markdown(runs, benches),
        "csv": lambda: build.results_csv(runs, benches),
    }


def _of_study(
    folders: Sequence[Path],
    files: Sequence[Path],
    title: str | None,
    data: Path | None,
) -> dict[str, Callable[[], Any]]:
    if len(files) > 1:
        raise EdgecifarError("a study has a page of its own: give one result, and run folders")
    study = load_study(files[0], folders)
    runs = [one.run for system in study.members for one in system.repetitions]
    pictures = pictures_of(dataset_of(data, runs)) if data else {}

    @cache
    def shown() -> dict[str, Any]:
        return study_page.contents(study, **pictures)

    title = study_page.full_title(study, title)
    return {
        "html": lambda: render("study.html", title=title, **shown()),
        "plots": lambda: svg_files(shown()),
        "markdown": lambda: study_page.study_markdown(study),
        "csv": lambda: study_page.study_csv(study),
    }


def dataset_of(data: Path, runs: Iterable[Run], benches: Iterable[Bench] = ()) -> "Dataset":
    """Load the data set at `data`, which must be that of all `runs`, or else of all `benches`."""
    from edgecifar.train.data import load as load_data

    runs, benches = list(runs), list(benches)
    size = next((tuple(run.info["image_size"]) for run in runs if run.info.get("image_size")), None)
    taken = next((bench.image_size for bench in benches if bench.image_size), None)
    # Which images were left out is settled by fingerprints and labels.
    load = partial(load_data, data, skip_corrupt=True, download=False)
    try:
        dataset = load(image_size=size)
    except EdgecifarError:
        if size or not taken:
            raise
        dataset = load(image_size=taken)  # photos of several sizes, as the bench has scaled them
    other = [run.name for run in runs if run.dataset.get("fingerprint") != dataset.fingerprint]
    if other:
        raise EdgecifarError(
            f"{data} is not the data set of {', '.join(other)}: leave out --data or those runs"
        )
    other = [] if runs else [bench for bench in benches if not _is_of(bench, dataset)]
    if other:
        raise EdgecifarError(
            f"{data} has not the test images of {', '.join(str(bench.source) for bench in other)}, "
            "or in another order: leave out --data, or give what was measured on"
        )
    return dataset


def _is_of(bench: Bench, dataset: "Dataset") -> bool:
    """Tell whether a bench was of these test images, or the first: classes and labels tell."""
    return bench.labels is None or (
        tuple(bench.classes) == dataset.classes
        and np.array_equal(bench.labels, dataset.test.labels[: len(bench.labels)])
    )


def pictures_of(dataset: "Dataset") -> dict:
    """Return what of a data set a page shows: its test images, and rows of training images."""
    return {"images": dataset.test.images, "samples": sample_rows(dataset)}
