"""``edgecifar classify``: name what images show."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecifar.runtime.backends import MOST_THREADS
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.shipped import listed
from edgecifar.runtime.tables import printable

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from edgecifar.runtime.classifier import Classifier

    Source = Path | bytes | np.ndarray | EdgecifarError
    Item = tuple[str, np.ndarray | EdgecifarError]
    Outcome = list[tuple[str, float]] | EdgecifarError

_BATCH = 64  # images decoded before they are shared out to the cores
_BATCH_SECONDS = 1.0  # after which fewer are, so that something is seen of large photos
_INTERVAL = 1.0
_UNSURE = "unsure"
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH…")
@click.option("--watch", type=_FOLDER, help="Classify images as they appear in this folder.")
@click.option("--camera", type=int, is_flag=False, flag_value=0, metavar="[NUMBER]",
              help="Classify what a camera sees, by default the first.")  # fmt: skip
@click.option("--fake-camera", type=_FOLDER, help="Let the images of a folder be a camera's.")
@click.option("--interval", type=click.FloatRange(0),
              help="Seconds between two frames of a camera.  [1.0]")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many images.")
@click.option("--model", type=click.Path(path_type=Path),
              help=f"A .tflite or .onnx file, or a model that ships: {listed()}.")  # fmt: skip
@click.option("--labels", type=click.Path(path_type=Path), help="Text file, one label a line.")
@click.option("--top", default=1, show_default=True, type=click.IntRange(min=1), metavar="K",
              help="Show the K most probable labels.")  # fmt: skip
@click.option("--min-confidence", default=0.0, type=click.FloatRange(0, 1),
              help="Say 'unsure' below this probability.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS),
              help="By default one a core for batches.")  # fmt: skip
@click.option("--backend", help="litert, tflite-runtime, tensorflow or onnxruntime.")
def classify(
    paths: tuple[str, ...],
    watch: Path | None,
    camera: int | None,
    fake_camera: Path | None,
    interval: float | None,
    count: int | None,
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
    standard input: images one after another, or file names, one a line.
    """
    from edgecifar.runtime.classifier import Classifier

    live = [watch is not None, camera is not None, fake_camera is not None]
    if bool(paths) + sum(live) != 1:
        raise click.UsageError("give paths, or one of --watch, --camera and --fake-camera")
    if interval is not None and camera is None and fake_camera is None:
        raise click.UsageError("--interval is a camera's: give --camera, or leave it out")
    # Before the model is loaded, so that images which appear meanwhile aren't missed.
    sources = _live(watch, camera, fake_camera, interval) if any(live) else _sources(paths)
    classifier = Classifier(model, labels=labels, threads=threads, backend=backend)
    _warn_of_strangers(classifier, named=labels is not None)
    if min_confidence:
        _warn_of_limits(classifier, min_confidence)
    show = _json_line if as_json else _text_line
    failed = 0
    # What is live is told at once; only files are worth a batch.
    batch = 1 if any(live) or "-" in paths else _BATCH
    for name, outcome in classify_sources(classifier, islice(sources, count), top, batch):
        if isinstance(outcome, EdgecifarError):
            failed += 1
            click.echo(f"Error: {printable(str(outcome))}", err=True)
            if as_json:
                click.echo(json.dumps({"file": name, "error": str(outcome)}))
        else:
            click.echo(show(name, outcome, min_confidence))
    if failed:
        raise click.exceptions.Exit(1)


def classify_sources(
    classifier: Classifier, sources: Iterable[tuple[str, Source]], top: int = 1, batch: int = _BATCH
) -> Iterator[tuple[str, Outcome]]:
    """Yield the best (label, probability) pairs of each image by name, or why there are none."""
    at_once = min(batch, classifier.batch_threads)
    for images in _batches(_read_all(classifier, iter(sources), at_once), batch):
        good = [image for _, image in images if not isinstance(image, EdgecifarError)]
        results = iter(_predict(classifier, good, top))
        for name, image in images:
            yield name, image if isinstance(image, EdgecifarError) else next(results)


def _batches(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Part what comes into lists of so many, or of what has come in `_BATCH_SECONDS`."""
    some, begun = [], time.monotonic()
    for item in items:
        some.append(item)
        if len(some) == most or time.monotonic() - begun > _BATCH_SECONDS:
            yield some
            some, begun = [], time.monotonic()
    if some:
        yield some


def _read_all(
    classifier: Classifier, sources: Iterator[tuple[str, Source]], at_once: int
) -> Iterator[Item]:
    """Yield each image, or why there is none, by name and in their order."""
    head = [*islice(sources, 2)] if at_once > 1 else []
    sources = chain(head, sources)
    if len(head) < 2:  # a single one pays for no threads
        yield from ((name, _read(name, source, classifier)) for name, source in sources)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once) as pool:
        jobs: deque[tuple[str, Future]] = deque()
        for name, source in sources:
            jobs.append((name, pool.submit(_read, name, source, classifier)))
            if len(jobs) > at_once:
                first, job = jobs.popleft()
                yield first, job.result()
        yield from ((name, job.result()) for name, job in jobs)


def _warn_of_strangers(classifier: Classifier, *, named: bool) -> None:
    model = classifier.model
    if not model.has_checksum:
        unnamed = "" if named or model.labels else "; name its classes with --labels"
        warning = (
            f"Warning: {model.path} carries neither description nor checksum: RGB pixels 0 to 255 "
            f"are what it is given, and damage isn't noticed{unnamed}"
        )
        click.echo(printable(warning), err=True)


def _warn_of_limits(classifier: Classifier, min_confidence: float) -> None:
    """Say so where integers can't be as sure as is asked: the largest of 256 steps is below 1."""
    import numpy as np

    scores = classifier.output
    if scores.dtype.kind not in "iu":
        return
    limits = np.iinfo(scores.dtype)
    surest = np.full(scores.shape, limits.min, scores.dtype)
    surest[0, 0] = limits.max
    if min_confidence > (most := float(classifier.probabilities(surest).max())):
        click.echo(
            f"Warning: no answer of {printable(str(classifier.model.path))} is surer than "
            f"{most:.4g}: with --min-confidence {min_confidence:g} all are unsure",
            err=True,
        )


def _sources(paths: Iterable[str]) -> Iterator[tuple[str, Source]]:
    """Yield images by name; an error stands for a path without any, and the others go on."""
    for path in paths:
        try:
            yield from _standard_input() if path == "-" else _images(path)
        except EdgecifarError as error:
            yield path, error


def _images(path: str) -> Iterator[tuple[str, Path]]:
    from edgecifar.runtime.images import find_images

    return ((str(found), found) for found in find_images([path]))


def _standard_input() -> Iterator[tuple[str, Source]]:
    from edgecifar.runtime.streams import read_items

    if sys.stdin is None:
        raise EdgecifarError("standard input is closed: give an image, images or file names")
    for number, item in enumerate(read_items(sys.stdin.buffer), start=1):
        yield (item, Path(item)) if isinstance(item, str) else (f"- {number}", item)


def _live(
    watched: Path | None, number: int | None, fake: Path | None, interval: float | None
) -> Iterator[tuple[str, Source]]:
    from edgecifar.runtime import cameras

    if watched is not None:
        return cameras.watch(watched)
    interval = _INTERVAL if interval is None else interval
    if fake is not None:
        return cameras.fake_camera(fake, interval=interval)
    return cameras.camera(number or 0, interval=interval)


def _read(name: str, source: Source, classifier: Classifier) -> np.ndarray | EdgecifarError:
    """Read an image at the model's size, so that a batch of photos needs little memory."""
    from edgecifar.runtime.images import decoded, resize

    if isinstance(source, EdgecifarError):
        return source
    height, width, _ = classifier.image_shape
    if not isinstance(source, (bytes, Path)):
        return resize(source, height, width)
    told = f"image {name[2:]} on standard input" if isinstance(source, bytes) else None
    try:
        with decoded(source, name=told) as image:
            return resize(image, height, width)
    except EdgecifarError as error:
        return EdgecifarError(str(error))  # whose traceback would hold the image, decoded in full


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
    unsure = "" if best[0][1] >= min_confidence else f"{_UNSURE} ("  # which NaN is, too
    return printable(f"{name}: {unsure}{scores}{')' if unsure else ''}")


def _json_line(name: str, best: list[tuple[str, float]], min_confidence: float) -> str:
    label, probability = best[0]
    return json.dumps(
        {
            "file": name,
            "label": label if probability >= min_confidence else _UNSURE,
            "probability": _rounded(probability),
            "top": [{"label": name, "probability": _rounded(p)} for name, p in best],
        }
    )


def _rounded(probability: float) -> float | None:
    """Six decimals, or None for what JSON has no number for."""
    return round(probability, 6) if math.isfinite(probability) else None
