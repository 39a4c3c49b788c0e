"""What `edgecifar models` prints: the models that ship, and the architectures."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgecifar.runtime import shipped
from edgecifar.train import zoo
from edgecifar.train.console import plain_console

_IMAGE_SIZE = (32, 32)  # of CIFAR-10, for which architectures are counted
_CLASSES = 10
_FIGURES = ("top1", "low", "high", "n")


def shipped_rows(chosen: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield what is known of each model that ships, or of those that `chosen` names.

    Accuracies are of the test images, `bytes` those of the int8 file without metadata; `default`
    is the one that `edgecifar classify` takes.
    """
    chosen = set(chosen)
    default = shipped.default_model().stem
    for model in zoo.entries():
        if chosen and not chosen & {model.name, model.architecture}:
            continue
        run = model.info["float"]["run"]
        int8 = {key: model.test("int8")[key] for key in _FIGURES}
        yield {
            "name": model.name,
            "default": model.name == default,
            "architecture": model.architecture,
            "dataset": run["dataset"]["name"],
            "classes": run["classes"],
            "input": [*model.image_size, 3],
            "parameters": run["parameters"],
            "macs": run["macs"],
            "float": {key: model.test("float")[key] for key in _FIGURES},
            "int8": int8 | {"bytes": model.info["int8"]["payload_bytes"]},
        }


def architecture_rows(chosen: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield name, summary, input, parameters and MACs of `chosen` architectures, else of all.

    `backbone_size` is what a network made for ImageNet enlarges the images to, None for others;
    `measured` the best top-1 of the architecture that edgecifar has measured on CIFAR-10, the mean
    of so many `seeds`, with the MACs of that model, or None.
    Each is built when its turn comes, which takes seconds for the largest.
    """
    from edgecifar.train import models
    from edgecifar.train.macs import count_macs
    from edgecifar.train.models.backbone import usual_size

    known = zoo.measured()
    for architecture in [models.find(name) for name in (tuple(chosen) or models.names())]:
        size = usual_size(_IMAGE_SIZE) if architecture.backbone else None
        enlarged = {"backbone_size": size} if size else {}
        model = architecture.deployed(architecture.build(_IMAGE_SIZE, _CLASSES, **enlarged))
        yield {
            "name": architecture.name,
            "summary": architecture.summary,
            "input": [*_IMAGE_SIZE, 3],
            "backbone_size": size,
            "parameters": model.count_params(),
            "macs": count_macs(model),
            "measured": known.get(architecture.name),
        }


def print_shipped(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print the rows of models that ship as a table."""
    from rich import box
    from rich.table import Table

    rows = list(rows)
    if not rows:
        return
    title = "models that ship: top-1 % on test images (95 % interval)"
    marked = any(row["default"] for row in rows)
    caption = "* is the model that classify uses unless you name another" if marked else None
    table = Table(title=title, box=box.SIMPLE_HEAD, caption=caption)
    table.add_column("name", no_wrap=True)
    table.add_column("data", no_wrap=True)
    for title in ("float", "int8", "int8 bytes"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        accuracies = (_accuracy(row[which]) for which in ("float", "int8"))
        name = f"{row['name']}{' *' if row['default'] else ''}"
        table.add_row(name, row["dataset"], *accuracies, f"{row['int8']['bytes']:,}")
    plain_console().print(table)


def print_architectures(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print the rows of `architecture_rows` as a table, and below it what each of them is."""
    from rich import box
    from rich.table import Table

    title = "architectures, with the top-1 % of the best recipe (float, CIFAR-10's test images)"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    table.add_column("input", no_wrap=True)
    for title in ("parameters", "MACs", "best"):
        table.add_column(title, justify="right", no_wrap=True)
    legend = Table.grid(padding=(0, 2, 0, 0))  # of its own: sentences would squeeze the figures
    legend.add_column(no_wrap=True)
    for row in rows:
        enlarged = f", to {row['backbone_size']}" if row["backbone_size"] else ""
        best = row["measured"]
        table.add_row(
            row["name"],
            "x".join(map(str, row["input"])) + enlarged,
            f"{row['parameters']:,}",
            f"{row['macs']:,}",
            _best(best, row["macs"]) if best else "",
        )
        legend.add_row(row["name"], row["summary"])
    console = plain_console()
    console.print(table)
    console.print(legend)


def _best(best: Mapping[str, Any], macs: int) -> str:
    """Name the MACs of the model that was measured where they aren't those of the row."""
    other = "" if best["macs"] == macs else f"\nat {best['macs'] / 1e6:.0f} M\nMACs"
    return f"{best['top1']:.2f}{other}"


def _accuracy(figures: Mapping[str, Any]) -> str:
    return f"{figures['top1']:.2f} ({figures['low']:.1f} to {figures['high']:.1f})"
