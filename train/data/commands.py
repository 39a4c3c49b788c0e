"""`edgecifar data`: fetch, info, preview and pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.console import plain_console
from edgecifar.train.data.options import data_options

if TYPE_CHECKING:
    from edgecifar.train.data.dataset import Dataset

_NAMES = ("cifar10", "cifar100")


@click.group()
def data() -> None:
    """Look at images, fetch CIFAR, pack images for a device."""


@data.command()
@data_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool, **chosen: Any) -> None:
    """Show classes, sizes, splits and fingerprint."""
    dataset = _load(chosen)
    summary = summarise(dataset)
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _print_table(summary)


@data.command()
@data_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="preview.png",
    show_default=True,
)
@click.option("--per-class", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def preview(out: Path, per_class: int, seed: int, force: bool, **chosen: Any) -> None:
    """Draw ten random training images of each class into a PNG."""
    from edgecifar.runtime.files import refuse_existing
    from edgecifar.train.data.cifar import is_official
    from edgecifar.train.data.preview import preview as draw_preview

    if out.suffix != ".png":
        raise EdgecifarError(f"{out} does not end in .png: name it {out.with_suffix('.png')}")
    refuse_existing(out, force=force)
    dataset = _load(chosen)
    source = Path(dataset.source)
    of_photos = source.is_dir() and not (is_official(source) or any(source.glob("*.zip")))
    if of_photos and out.resolve().is_relative_to(source.resolve()):
        raise EdgecifarError(f"{out} would lie among the images of {source}: give another --out")
    draw_preview(dataset, out, per_class=per_class, seed=seed)
    click.echo(f"{out}: {len(dataset.classes)} classes of {dataset.name}")


@data.command()
@click.argument("name", type=click.Choice(_NAMES), default="cifar10")
@click.option("--url", help="Another place with the same file.")
def fetch(name: str, url: str | None) -> None:
    """Download an official archive into the cache, or check the one there."""
    from edgecifar.train.data.fetch import ARCHIVES
    from edgecifar.train.data.fetch import fetch as fetch_archive

    path = fetch_archive(ARCHIVES[name], url)
    click.echo(f"{path}: complete, checksum as published")


@data.command()
@data_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option(
    "--split",
    type=click.Choice(("train", "validation", "test")),
    default="test",
    show_default=True,
)
@click.option("--limit", type=click.IntRange(1), help="At most N images, a share of each class.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def pack(out: Path, split: str, limit: int | None, force: bool, **chosen: Any) -> None:
    """Write one split into an .npz file that a device reads."""
    from edgecifar.runtime.files import refuse_existing
    from edgecifar.train.data.pack import pack as write_pack

    if out.suffix != ".npz":
        raise EdgecifarError(f"{out} does not end in .npz: name it {out.with_suffix('.npz')}")
    refuse_existing(out, force=force)
    packed = write_pack(_load(chosen), split, out, limit=limit)
    click.echo(f"{out}: {len(packed)} {split} images, {out.stat().st_size / 1e6:.1f} MB")


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Return what `info` prints: plain JSON values."""
    import numpy as np

    counts = {
        name: np.bincount(split.labels, minlength=len(dataset.classes)).tolist()
        for name, split in dataset.splits.items()
    }
    return {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "image_size": [int(side) for side in dataset.image_size],
        "images": {name: len(split) for name, split in dataset.splits.items()},
        "skipped": list(dataset.skipped),
        "copies": dict(dataset.copies),
        "classes": [
            {"name": name, **{split: counts[split][label] for split in counts}}
            for label, name in enumerate(dataset.classes)
        ],
    }


def _load(chosen: dict[str, Any]) -> Dataset:
    from edgecifar.train.data import load

    return load(**chosen)


def _print_table(summary: dict[str, Any]) -> None:
    from rich.table import Table

    height, width = summary["image_size"]
    splits = list(summary["images"])
    table = Table("class", *splits, show_footer=True, title_justify="left")
    table.columns[0].footer = f"{len(summary['classes'])} classes"
    for column, split in zip(table.columns[1:], splits, strict=True):
        column.justify, column.footer = "right", f"{summary['images'][split]:,}"
    for row in summary["classes"]:
        table.add_row(row["name"], *(f"{row[split]:,}" for split in splits))
    click.echo(f"{summary['name']}: {height}x{width} RGB, from {summary['source']}")
    click.echo(f"fingerprint {summary['fingerprint']}")
    plain_console().print(table)
