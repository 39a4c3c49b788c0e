"""Measure model files against each other: latency, size, memory, and accuracy on given images."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime import __version__, environment
from edgecifar.runtime.backends import MOST_THREADS
from edgecifar.runtime.candidates import (
    Candidate,
    Images,
    caveat,
    expand,
    input_of,
    load,
    measure_accuracy,
)
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.journal import Journal
from edgecifar.runtime.results import SCHEMA, pack_classes, seal
from edgecifar.runtime.rounds import measure_rounds
from edgecifar.runtime.timing import TimingPlan

if TYPE_CHECKING:
    from edgecifar.runtime.labelled import Labelled

Progress = Callable[[str], object]

OF_IMAGES = ("fingerprint", "n", "labels")  # the labels tell of their order


@dataclass(frozen=True)
class Settings:
    """What is measured beside accuracy and size, and how.

    Every file is measured on each of the ``backends`` (None: the first that imports) with each
    number of ``threads`` and images a call (``batches``). ``images`` takes only so many of the
    test images. Without ``timed`` no time is measured, as under an emulator.
    """

    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1,)
    backends: tuple[str | None, ...] = (None,)
    images: int | None = None
    timed: bool = True
    energy: bool = True
    profile: bool = False
    plan: TimingPlan = field(default_factory=TimingPlan)

    def __post_init__(self) -> None:
        for number in self.threads:
            if not 1 <= number <= MOST_THREADS:
                raise EdgecifarError(f"{number} threads: give 1 to {MOST_THREADS}")
        for number in self.batches:
            if number < 1:
                raise EdgecifarError(f"{number} images a call: give 1 or more")
        if self.images is not None and self.images < 1:
            raise EdgecifarError(f"{self.images} test images: give 1 or more")

    def as_json(self) -> dict[str, Any]:
        """Return the settings for a result, single numbers as such."""
        return {
            "threads": _one_or_all(self.threads),
            **({"batch": _one_or_all(self.batches)} if self.batches != (1,) else {}),
            **({"backends": list(self.backends)} if self.backends != (None,) else {}),
            **({"profile": True} if self.profile else {}),
            **asdict(self.plan),
        }


def bench(
    files: Sequence[Path],
    *,
    data: "Path | Labelled | Images | None" = None,
    settings: Settings | None = None,
    journal: Path | None = None,
    on_progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measure files against the first one.

    Latency is that of set tensor, invoke, get tensor, in rounds that take turns (see `timing`).
    Peak memory, load time and first inference come from a child process a model. Accuracy is
    top-1 in percent over ``data``, a path with test images in it or images already read, with a
    95 % interval. What is finished goes to the file ``journal``; the same call goes on from it,
    and the caller deletes it once the result is stored.

    Returns:
        The sealed result as JSON holds it. The entry of a file that failed has an ``error``.

    Raises:
        EdgecifarError: ``data`` can't be read.

    """
    settings = settings or Settings()
    rows = expand(files, settings.backends, settings.threads, settings.batches)
    for row in rows:
        on_progress(f"loading {row.path.name}")
        _catching(row, lambda row=row: load(row, timed=settings.timed))
    loaded = [row for row in rows if row.is_loaded]
    images = _read_images(loaded, data, settings.images, on_progress) if data else {}
    key = _key(rows, images, settings)
    done = Journal(journal, key, on_progress)
    try:
        if done.resumed:
            on_progress(f"going on after {len(done.every('round'))} finished rounds")
        if not done.find("start"):
            done.add("start", environment=environment.describe(), created=_now())
        if settings.timed:
            measure_rounds(rows, images, settings, done, on_progress)
        _accuracies(loaded, images, done, on_progress)
        if settings.profile:
            _profiles(loaded, images)
        return _result(rows, images, settings, done, key)
    finally:
        done.close()


def _catching(row: Candidate, step: Callable[[], None]) -> None:
    try:
        step()
    except EdgecifarError as error:
        row.result["error"] = str(error)


def _read_images(
    rows: Sequence[Candidate],
    data: "Path | Labelled | Images",
    limit: int | None,
    on_progress: Progress,
) -> dict[tuple[int, int], "Labelled"]:
    """Read the test images at each size that a model takes, (height, width)."""
    from edgecifar.runtime.labelled import read_labelled

    def told(count: int, total: int) -> None:
        on_progress(f"reading images: {count} of {total}")

    sizes = dict.fromkeys(row.classifier.image_shape[:2] for row in rows if row.classifier)
    if isinstance(data, Path):
        found = {size: read_labelled(data, image_size=size, progress=told) for size in sizes}
    else:
        given = data if isinstance(data, Mapping) else {data.images.shape[1:3]: data}
        if set(sizes) - set(given):
            raise EdgecifarError("a model takes images of another size: give the images by path")
        found = {size: given[size] for size in sizes}
    if limit is None:
        return found
    return {
        size: replace(labelled, images=labelled.images[:limit], labels=labelled.labels[:limit])
        for size, labelled in found.items()
    }


def _key(rows: Sequence[Candidate], images: Images, settings: Settings) -> str:
    """Identify a bench: the same files, images, settings, interpreters and machine."""
    models = [[row.answers_as[0], row.result.get("backend")] for row in rows]
    data, versions = _describe_images(images), environment.versions()
    machine = [platform.machine(), environment.board(), environment.cpu_model()]
    of_data = data and [data[key] for key in OF_IMAGES]
    what = [SCHEMA, __version__, models, of_data]
    what += [machine, versions["python"], versions.get("numpy")]
    text = json.dumps([*what, asdict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _describe_images(images: Images) -> dict[str, Any] | None:
    return describe(images[min(images)]) if images else None  # whichever model comes first


def describe(labelled: "Labelled") -> dict[str, Any]:
    """Return what a result holds of its images; `OF_IMAGES` of it tell them from others."""
    return {
        "name": labelled.name,
        "fingerprint": labelled.fingerprint,
        "n": len(labelled.labels),
        **({"of": labelled.of} if labelled.of else {}),
        "classes": list(labelled.classes),
        "labels": pack_classes(np.asarray(labelled.labels), len(labelled.classes)),
    }


def _accuracies(
    rows: Sequence[Candidate], images: Images, done: Journal, on_progress: Progress
) -> None:
    for row in rows if images else ():
        model, backend = row.answers_as
        known = done.find("accuracy", model=model, backend=backend)
        if known is None:

            def told(count: int, total: int, name: str = row.path.name) -> None:
                on_progress(f"accuracy of {name}: {count} of {total}")

            try:
                value = measure_accuracy(row, images, told)
            except EdgecifarError as error:
                row.result["error"] = str(error)
                continue
            known = done.add("accuracy", model=model, backend=backend, value=value)
        row.result["accuracy"] = known["value"]
        if note := caveat(row.model, images[min(images)]):
            row.result["accuracy_note"] = note


def _profiles(rows: Sequence[Candidate], images: Images) -> None:
    from edgecifar.runtime.operators import NO_PROFILE, profile

    for row in rows:
        if row.model.kind == "onnx":
            times = profile(row.model, input_of(row, images), threads=row.threads)
            row.result["operators"] = [asdict(time) for time in times]
        else:
            row.result["operators"] = None
            row.result["operators_note"] = NO_PROFILE.format(backend=row.result["backend"])


def _result(
    rows: Sequence[Candidate], images: Images, settings: Settings, done: Journal, key: str
) -> dict[str, Any]:
    start, last = done.find("start"), done.find("state")
    # The last state of each session covers all of it.
    sessions = {record["session"]: record for record in done.every("state")}
    doubts = list(dict.fromkeys(text for r in sessions.values() for text in r["doubts"]))
    return seal(
        {
            "schema": SCHEMA,
            "kind": "bench",
            "created": start["created"],
            "request": key,
            "environment": start["environment"],
            "environment_after": last and last["after"],
            "timed": settings.timed,
            "valid": not doubts,
            "doubts": doubts,
            "sessions": max(1, len(sessions)),
            "settings": settings.as_json(),
            "data": _describe_images(images),
            "models": [row.result for row in rows],
        }
    )


def _one_or_all(numbers: tuple[int, ...]) -> int | list[int]:
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
