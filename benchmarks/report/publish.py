"""A report in all the forms that were asked for: all of its files or none."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgecifar.benchmarks.report.build import load, page, results_csv, results_markdown
from edgecifar.benchmarks.report.load import Run, sort_inputs
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing, replace_file


def publish(
    inputs: Iterable[Path],
    out: Path,
    *,
    title: str | None = None,
    data: Path | None = None,
    markdown: Path | None = None,
    csv: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Write the page, and Markdown and CSV where a path is given; return what was written.

    `inputs` are run folders and bench results in any order; `data` is the data set of the runs.
    Everything is worked out before the first file is written.
    """
    wanted = [path for path in (out, markdown, csv) if path]
    for path in wanted:
        refuse_existing(path, force=force)
    runs, benches = load(*sort_inputs(inputs))
    images = images_of(data, runs) if data else None
    texts = {out: page(runs, benches, title=title, images=images)}
    if markdown:
        texts[markdown] = results_markdown(runs, benches)
    if csv:
        texts[csv] = results_csv(runs, benches)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    return wanted


def images_of(data: Path, runs: Iterable[Run]) -> np.ndarray:
    """Load the test images of the data set at `data`, which must be that of all `runs`."""
    from edgecifar.train.data import load as load_data

    runs = list(runs)
    size = next((tuple(run.info["image_size"]) for run in runs if run.info.get("image_size")), None)
    dataset = load_data(data, image_size=size, download=False)
    other = [run.name for run in runs if run.dataset.get("fingerprint") != dataset.fingerprint]
    if other:
        raise EdgecifarError(
            f"{data} is not the data set of {', '.join(other)}: leave out --data or those runs"
        )
    return dataset.test.images
