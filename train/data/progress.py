"""Progress of long reading, reported as (done, total)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def reporting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; yields a function of (done, total).

    It appears with the first call, so that work found done shows nothing.
    """
    bar = task = None

    def report(done: int, total: int) -> None:
        nonlocal bar, task
        if bar is None:
            from edgecifar.train.progress import progress

            bar = progress()
            bar.start()
            task = bar.add_task(title)
        bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        if bar is not None:
            bar.stop()
