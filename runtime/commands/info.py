"""``edgecifar info``: what a model file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgecifar.runtime.shipped import listed


@click.command(epilog=f"Models that ship: {listed()}.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--backend", help="litert, tflite-runtime, tensorflow or onnxruntime.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(file: Path | None, backend: str | None, as_json: bool) -> None:
    """Show what a model says of itself, by default the one that classifies.

    FILE may be the name of a model that ships with the runtime.
    """
    from edgecifar.runtime.description import describe, lines

    description = describe(file, backend=backend)
    click.echo(json.dumps(description, indent=1) if as_json else "\n".join(lines(description)))
