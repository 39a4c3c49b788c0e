"""``edgecifar bench``: latency, memory and accuracy of model files in one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing, refuse_special
from edgecifar.runtime.shipped import listed, locate
from edgecifar.runtime.stored import Outcome, bench_to_file
from edgecifar.runtime.tables import human_bytes, printable, table

if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER = ("model", "median µs", "p90", "p99", "ratio", "95 % interval", "file", "memory", "top-1")
_SLOWEST = 12  # operators that are shown; the JSON has all
_LOCAL = "local"
_STDOUT = Path("-")
_PLUGINS = "edgecifar.devices"


class Numbers(click.ParamType):
    """Whole numbers from 1 on, with commas between them."""

    name = "N[,N…]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Return the numbers, each once."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(int(part) for part in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 1,2,4", param, ctx)


class Percent(click.ParamType):
    """A share, given as `2%` or `2`."""

    name = "PERCENT"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return it as a fraction."""
        try:
            return value if isinstance(value, float) else float(value.rstrip("% ")) / 100
        except ValueError:
            self.fail(f"{value!r} is no percentage such as 2%", param, ctx)


@click.command(epilog=f"Models that ship: {listed()}.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Measure accuracy on the test images of a folder, zip or .npz file.",
)
@click.option("--images", type=int, help="Take only so many of the test images.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="local, local:without-amx, ssh://[user@]host[:port] or emulated:pi4 (pi5, pi3, pi3-32); "
    "repeatable.  [local]",
)
@click.option(
    "--threads", type=Numbers(), default="1", show_default=True, help="Threads of one inference."
)
@click.option("--batch", type=Numbers(), default="1", show_default=True, help="Images a call.")
@click.option("--rounds", default=20, show_default=True, help="Rounds that the models take turns.")
@click.option(
    "--precision",
    type=Percent(),
    help="Go on until every ratio's interval is as narrow: 2% to either side.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    help="litert, tflite-runtime, tensorflow or onnxruntime; may be repeated.",
)
@click.option("--profile", is_flag=True, help="Also time each operator, where it can be done.")
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False),
              help="Store the result in this file; - prints it.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the file given to --json.")
def bench(
    *,
    files: tuple[Path, ...],
    data: Path | None,
    devices: tuple[str, ...],
    output: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Measure .tflite and .onnx files against the first of them.

    FILE may be the name of a model that ships. Latencies are microseconds for one call. A ratio
    below 1 is faster than the first file. With --json, a killed bench goes on where it stood when
    it is started again.
    """
    if options["images"] is not None and data is None:
        raise click.UsageError("--images takes some of the test images: give these by --data")
    printed = output == _STDOUT
    if printed and len(set(devices)) > 1:
        raise click.UsageError("--json - prints one result: give one device, or a file's name")
    if output and not printed:
        refuse_special(output)
    measure = _here if set(devices) <= {_LOCAL} else _elsewhere()
    with _Status() as status:
        outcomes = measure(
            list(dict.fromkeys(devices)),
            tuple(map(locate, files)),
            None if printed else output,
            data=data,
            settings=_settings(options),
            force=force,
            on_progress=status.show,
        )
    click.echo(_told(outcomes), err=printed)
    if printed and (result := outcomes[0].result):
        from edgecifar.runtime.results import as_bytes

        click.echo(as_bytes(result), nl=False)
    failed = [error for outcome in outcomes for error in outcome.errors]
    for error in failed[:-1]:
        click.echo(f"Error: {printable(error)}", err=True)
    if failed:
        raise EdgecifarError(failed[-1])


def _settings(options: dict[str, Any]) -> Any:
    from edgecifar.runtime.benchmark import Settings
    from edgecifar.runtime.timing import TimingPlan

    return Settings(
        threads=options["threads"],
        batches=options["batch"],
        backends=options["backends"] or (None,),
        images=options["images"],
        profile=options["profile"],
        plan=TimingPlan(rounds=options["rounds"], precision=options["precision"]),
    )


def _here(
    _devices: list[str], files: tuple[Path, ...], output: Path | None, *, force: bool, **how: Any
) -> list[Outcome]:
    """Measure on this machine, which needs no other package."""
    if output:
        refuse_existing(output, force=force)
    return [Outcome(_LOCAL, bench_to_file(files, output, **how))]


def _elsewhere() -> Callable[..., list[Outcome]]:
    """Return what measures on other devices: the workstation's package brings it."""
    from importlib.metadata import entry_points

    for point in entry_points(group=_PLUGINS):
        return point.load()
    raise EdgecifarError("measuring on other devices is for a workstation: install edgecifar there")


def _told(outcomes: list[Outcome]) -> str:
    """Lay out what each device gave, below its name if there are several."""
    texts = [
        render(one.result) if one.result else f"not measured: {printable(str(one.error))}"
        for one in outcomes
    ]
    if len(texts) > 1:
        texts = [f"{one.device}\n{text}" for one, text in zip(outcomes, texts, strict=True)]
    return "\n\n".join(texts)


def render(result: dict[str, Any]) -> str:
    """Lay out the result as a table, and name the machine that it comes from."""
    where = result["environment"]
    machine = where["board"] or where["cpu"] or where["machine"]
    details = [f"{where['cores']} cores", *where["features"]]
    details += [f"{name} withheld" for name in where.get("withheld", ())]
    if where["governor"]:
        details.append(f"governor {where['governor']}")
    if where["temperature_c"] is not None:
        details.append(f"{where['temperature_c']:.0f} °C")
    rows = result["models"]
    backends = sorted({row["backend"] for row in rows if "backend" in row})
    notes = [
        f"{machine} ({', '.join(details)}); {', '.join(backends) or 'no interpreter'}; "
        f"threads {_listed(result['settings']['threads'])}",
    ]
    if result["data"]:
        notes.append(_images(result["data"]))
        notes += [
            f"{_name(row, rows)}: {row['accuracy_note']}" for row in rows if "accuracy_note" in row
        ]
    if not result.get("timed", True):
        notes.append("An emulator's times say nothing of a device, so none were taken.")
    notes += [f"These latencies are invalid: {doubt}." for doubt in result["doubts"]]
    text = "\n".join([table(*_columns(result)), "", *map(printable, notes)])
    return "\n\n".join([text, *_profiles(rows)])


def _images(data: dict[str, Any]) -> str:
    if "of" not in data:
        return f"top-1 on {data['n']:,} images of {data['name']}"
    return (
        f"top-1 on {data['n']:,} of the {data['of']:,} images of {data['name']}, from the fifth "
        "that training leaves out"
    )


def _profiles(rows: list[dict[str, Any]]) -> list[str]:
    """Return a table of each row's slowest operators, or why there is none."""
    told = []
    for row in rows:
        if note := row.get("operators_note"):
            told.append(f"{printable(_name(row, rows))}: {printable(note)}")
        elif operators := row.get("operators"):
            whole = sum(operator["us"] for operator in operators)
            cells = [
                (item["name"], item["operator"], f"{item['us']:.1f}", f"{item['us'] / whole:.0%}")
                for item in operators[:_SLOWEST]
            ]
            header = (f"operators of {_name(row, rows)}", "kind", "us", "share")
            told.append(table(header, cells))
    return told


def _columns(result: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows; energy only where it was measured."""
    rows = [_cells(row, result) for row in result["models"]]
    header = _HEADER
    if any(row.get("energy_mj") for row in result["models"]):
        header = (*header, "energy")
        rows = [(*cells, _energy(row)) for cells, row in zip(rows, result["models"], strict=True)]
    return header, rows


def _cells(row: dict[str, Any], result: dict[str, Any]) -> tuple[str, ...]:
    name, accuracy = _name(row, result["models"]), row.get("accuracy")
    if "backend" not in row:
        return (name, "failed", *[""] * (len(_HEADER) - 2))
    latency, ratio = row["latency_us"], row["ratio"]
    times = (f"{latency[key]:.1f}" if latency else "" for key in ("median", "p90", "p99"))
    return (
        name,
        *times,
        f"{ratio['value']:.2f}" if ratio else "",
        f"{ratio['low']:.2f} to {ratio['high']:.2f}" if ratio else "",
        human_bytes(row["file_bytes"]),
        "" if (memory := row["model_memory_bytes"]) is None else human_bytes(memory),
        _accuracy(accuracy) if accuracy else "failed" if "error" in row else "",
    )


def _name(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Name the row, with whatever tells it from others of that name; else with its file."""
    # Of one that failed it is known at most which interpreter was asked for.
    row, *rows = ({"backend": one.get("backend_asked"), **one} for one in (row, *rows))
    told = [row["name"]]
    same = twins = [other for other in rows if other["name"] == row["name"]]
    for key, form in (("backend", "{}"), ("threads", "{} threads"), ("batch", "batch {}")):
        if row.get(key) and len({str(other.get(key)) for other in twins}) > 1:
            told.append(form.format(row.get(key)))
        same = [other for other in same if other.get(key) == row.get(key)]
    if len({other["file"] for other in same}) > 1:
        told.append(row["file"])
    return ", ".join(told)


def _accuracy(accuracy: dict[str, Any]) -> str:
    return f"{accuracy['top1']:.2f} % ({accuracy['low']:.2f} to {accuracy['high']:.2f})"


def _energy(row: dict[str, Any]) -> str:
    return f"{row['energy_mj']['median']:.3g} mJ" if row.get("energy_mj") else ""


def _listed(value: int | list[int]) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


class _Status:
    """One line on the terminal that says what is being done; nothing if stderr is a file."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._live = self._stream.isatty()

    def __enter__(self) -> _Status:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            self._stream.write(f"\r\x1b[K{printable(text)}")
            self._stream.flush()
