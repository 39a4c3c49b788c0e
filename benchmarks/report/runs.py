"""What the page shows of a run: its curves, what it gets wrong, and how sure it is of itself."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report import figures, tables
from edgecifar.benchmarks.report.load import Bench, Run
from edgecifar.benchmarks.report.origins import Facts, run_origin
from edgecifar.benchmarks.report.svg import Plot
from edgecifar.benchmarks.report.tables import Table
from edgecifar.benchmarks.report.verdict import Row, run_rows
from edgecifar.benchmarks.statistics import ConfusedPair, confused_pairs
from edgecifar.runtime.errors import EdgecifarError

_PAIRS = 6


@dataclass(frozen=True)
class Pair:
    """A pair of classes that was confused, with example images as data URIs."""

    true: str
    predicted: str
    count: int
    rate: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it; `no_examples` says why its pairs have no images."""

    name: str
    split: str | None
    n: int | None
    curves: tuple[Plot, ...]
    matrices: tuple[Plot, ...]
    classes: Plot | None
    pairs: tuple[Pair, ...]
    no_examples: str
    reliability: Plot | None
    origin: Facts


def run_view(run: Run, key: str, images: np.ndarray | None) -> RunView:
    """Work out what the page shows of a run; `images` are its test images in stored order."""
    metrics = run.metrics.get(run.split or "", {})
    matrix = np.array(metrics["confusion"]) if metrics.get("confusion") else None
    scores = metrics.get("per_class")
    names = run.classes or tuple(map(str, range(len(matrix) if matrix is not None else 0)))
    reliability = None
    if run.calibration is not None:
        reliability = figures.reliability(run.calibration, f"{key}-reliability")
    pairs = () if matrix is None else _pairs(run, matrix, names, images)
    return RunView(
        run.name,
        run.split,
        metrics.get("n"),
        _curves(run, key),
        () if matrix is None else _matrices(matrix, names, key),
        figures.per_class(scores, f"{key}-classes") if scores else None,
        pairs,
        _no_examples(run, pairs, images),
        reliability,
        run_origin(run),
    )


def training_table(runs: Sequence[Run]) -> tuple[Table, tuple[Row, ...]]:
    """Tabulate runs side by side and compare them with the first."""
    rows = run_rows(runs)
    where = {run.split for run in runs}
    caption = "Figures are of the test images" if where == {"test"} else "Figures of each run"
    return tables.training(runs, rows, caption), rows


def parity_entries(runs: Sequence[Run], benches: Sequence[Bench]) -> dict[str, dict]:
    """Collect what files say of their agreement with Keras, by the file's name."""
    found = {m.name: m.metadata.get("parity") for bench in benches for m in bench.models}
    found |= {e.path.name: e.metadata.get("parity") for run in runs for e in run.exports}
    return {name: values for name, values in found.items() if isinstance(values, dict) and values}


def _curves(run: Run, key: str) -> tuple[Plot, ...]:
    best = run.info.get("best_epoch")
    return tuple(
        figures.curve(run.history, quantity, best, f"{key}-{quantity}")
        for quantity in ("loss", "accuracy")
        if len(run.history.get(quantity, ()))
    )


def _matrices(matrix: np.ndarray, names: Sequence[str], key: str) -> tuple[Plot, ...]:
    counts = figures.confusion(matrix, names, rates=False, name=f"{key}-counts")
    rates = figures.confusion(matrix, names, rates=True, name=f"{key}-rates")
    return (counts, rates) if len(names) <= figures.MATRIX_TEXT else (rates,)


def _pairs(
    run: Run, matrix: np.ndarray, names: Sequence[str], images: np.ndarray | None
) -> tuple[Pair, ...]:
    count = run.metrics.get("test", {}).get("n")
    if images is not None and run.mistakes and len(images) != count:
        raise EdgecifarError(
            f"{len(images)} images for {count} predictions of {run.name}: "
            "give the test images that it was evaluated on"
        )
    return tuple(
        Pair(
            names[pair.true],
            names[pair.predicted],
            pair.count,
            words.percent(100 * pair.rate),
            _examples(run, pair, images),
        )
        for pair in confused_pairs(matrix, top=_PAIRS)
    )


def _no_examples(run: Run, pairs: Sequence[Pair], images: np.ndarray | None) -> str:
    if not pairs or any(pair.images for pair in pairs):
        return ""
    if images is None:
        return "Without examples: the images were not given (--data)."
    if run.split != "test":
        return "Without examples: they are of test images, on which this run was not evaluated."
    return "Without examples: which images these are was not kept of this run."


def _examples(run: Run, pair: ConfusedPair, images: np.ndarray | None) -> tuple[str, ...]:
    """Give the images that were confused with the most confidence, as PNG data URIs."""
    if images is None or run.split != "test":
        return ()
    return tuple(data_uri(images[i]) for i in run.mistakes.get((pair.true, pair.predicted), ()))


def data_uri(image: np.ndarray, most: tuple[int, int] = (96, 96)) -> str:
    """Return an image as a PNG of at most (width, height) pixels inside a URI."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(image))
    picture.thumbnail(most)
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
