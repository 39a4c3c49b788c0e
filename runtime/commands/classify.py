"""``edgecifar classify``: name what image files show."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import numpy as np

    from edgecifar.runtime.classifier import Classifier

_BATCH = 64  # images decoded before they are shared out to the cores
_UNSURE = "unsure"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--model", type=click.Path(path_type=Path), help="A .tflite or .onnx file.")
@click.option("--labels", type=click.Path(path_type=Path), help="Text file, one label a line.")
@click.option("--top", default=1, show_default=True, type=click.IntRange(min=1), metavar="K",
              help="Show the K most probable labels.")  # fmt: skip
@click.option("--min-confidence", default=0.0, type=click.FloatRange(0, 1),
              help="Say 'unsure' below this probability.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--threads", type=click.IntRange(min=1), help="By default one a core for batches.")
@click.option("--backend", help="litert, tflite-runtime, tensorflow or onnxruntime.")
def classify(
    paths: tuple[str, ...],
    model: Path | None,
    labels: Path | None,
    top: int,
    min_confidence: float,
    as_json: bool,
    threads: int | None,
    backend: str | None,
) -> None:
    """Name what the images in PATH… show.

    A PATH is an image file of any common format, size and mode, a folder, a pattern, or - for
    one image on standard input.
    """
    from edgecifar.runtime.classifier import Classifier

    classifier = Classifier(model, labels=labels, threads=threads, backend=backend)
    show = _json_line if as_json else _text_line
    failed = 0
    for name, outcome in classify_files(classifier, paths, top=top):
        if isinstance(outcome, EdgecifarError):
            failed += 1
            click.echo(f"Error: {outcome}", err=True)
        else:
            click.echo(show(name, outcome, min_confidence))
    if failed:
        raise click.exceptions.Exit(1)


def classify_files(
    classifier: Classifier, paths: Iterable[str], *, top: int = 1
) -> Iterator[tuple[str, list[tuple[str, float]] | EdgecifarError]]:
    """Yield the best (label, probability) pairs of each image by name, or why there are none."""
    names = _names(paths)
    while batch := list(islice(names, _BATCH)):
        images = [(name, _read(name, classifier)) for name in batch]
        good = [image for _, image in images if not isinstance(image, EdgecifarError)]
        results = iter(_predict(classifier, good, top))
        for name, image in images:
            yield name, image if isinstance(image, EdgecifarError) else next(results)


def _names(paths: Iterable[str]) -> Iterator[str]:
    from edgecifar.runtime.images import find_images

    for path in paths:
        if path == "-":
            yield path
        else:
            yield from map(str, find_images([path]))


def _read(name: str, classifier: Classifier) -> np.ndarray | EdgecifarError:
    """Read an image at the model's size, so that a batch of photos needs little memory."""
    from edgecifar.runtime.images import read_image, resize

    height, width, _ = classifier.image_shape
    try:
        if name == "-":
            image = read_image(sys.stdin.buffer.read(), name="standard input")
        else:
            image = read_image(Path(name))
    except EdgecifarError as error:
        return error
    return image if image.shape == classifier.image_shape else resize(image, height, width)


def _predict(
    classifier: Classifier, images: list[np.ndarray], top: int
) -> list[list[tuple[str, float]]]:
    if len(images) == 1:
        return classifier.predict(images[0]).top(top)
    if not images:
        return []
    import numpy as np

    return classifier.predict(np.stack(images)).top(top)


def _text_line(name: str, best: list[tuple[str, float]], min_confidence: float) -> str:
    scores = ", ".join(f"{label} {100 * probability:.1f} %" for label, probability in best)
    unsure = f"{_UNSURE} (" if best[0][1] < min_confidence else ""
    return f"{name}: {unsure}{scores}{')' if unsure else ''}"


def _json_line(name: str, best: list[tuple[str, float]], min_confidence: float) -> str:
    label, probability = best[0]
    return json.dumps(
        {
            "file": name,
            "label": _UNSURE if probability < min_confidence else label,
            "probability": round(probability, 6),
            "top": [{"label": name, "probability": round(p, 6)} for name, p in best],
        },
        ensure_ascii=False,
    )
