"""``edgecifar bench``: latency, memory and accuracy of model files in one run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing, replace_file
from edgecifar.runtime.tables import human_bytes, table

_HEADER = ("model", "median", "p90", "p99", "ratio", "95 % interval", "file", "memory", "top-1")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Measure accuracy on the test images of a folder, zip or .npz file.",
)
@click.option("--threads", default=1, show_default=True, help="Threads of one inference.")
@click.option("--rounds", default=20, show_default=True, help="Rounds that the models take turns.")
@click.option("--backend", help="litert, tflite-runtime, tensorflow or onnxruntime.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Store the result here.")
@click.option("--force", is_flag=True, help="Overwrite the file given to --json.")
def bench(
    files: tuple[Path, ...],
    data: Path | None,
    threads: int,
    rounds: int,
    backend: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Measure .tflite and .onnx files against the first of them.

    Latencies are microseconds for one image. A ratio below 1 is faster than the first file.
    """
    from edgecifar.runtime import benchmark
    from edgecifar.runtime.timing import TimingPlan

    if output:
        refuse_existing(output, force=force)
    with _Status() as status:
        result = benchmark.bench(
            files,
            data=data,
            threads=threads,
            backend=backend,
            plan=TimingPlan(rounds=rounds),
            on_progress=status.show,
        )
    click.echo(render(result))
    if output:
        replace_file(output, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    failed = [row["error"] for row in result["models"] if "error" in row]
    if failed:
        for error in failed[:-1]:
            click.echo(f"Error: {error}", err=True)
        raise EdgecifarError(failed[-1])


def render(result: dict[str, Any]) -> str:
    """Lay out the result as a table, and name the machine that it comes from."""
    where = result["environment"]
    machine = where["board"] or where["cpu"] or where["machine"]
    details = [f"{where['cores']} cores", *where["features"]]
    if where["governor"]:
        details.append(f"governor {where['governor']}")
    if where["temperature_c"] is not None:
        details.append(f"{where['temperature_c']:.0f} °C")
    backends = sorted({row["backend"] for row in result["models"] if "backend" in row})
    lines = [
        table(_HEADER, [_cells(row) for row in result["models"]]),
        "",
        f"{machine} ({', '.join(details)}); {', '.join(backends) or 'no interpreter'}; "
        f"threads {result['settings']['threads']}",
    ]
    if result["data"]:
        lines.append(f"top-1 on {result['data']['n']} images of {result['data']['name']}")
    lines += [f"These latencies are invalid: {doubt}." for doubt in result["doubts"]]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if not row.get("latency_us"):
        return (row["name"], "failed", *[""] * (len(_HEADER) - 2))
    times = (f"{row['latency_us'][key]:.1f}" for key in ("median", "p90", "p99"))
    ratio, accuracy = row["ratio"], row["accuracy"]
    return (
        row["name"],
        *times,
        f"{ratio['value']:.2f}" if ratio else "",
        f"{ratio['low']:.2f} to {ratio['high']:.2f}" if ratio else "",
        human_bytes(row["file_bytes"]),
        human_bytes(row["model_memory_bytes"]),
        _accuracy(accuracy) if accuracy else "failed" if "error" in row else "",
    )


def _accuracy(accuracy: dict[str, Any]) -> str:
    return f"{accuracy['top1']:.2f} % ({accuracy['low']:.2f} to {accuracy['high']:.2f})"


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
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
