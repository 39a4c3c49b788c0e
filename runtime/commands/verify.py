"""``edgecifar verify``: prove that a model file is whole and computes the same here."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.shipped import listed


@click.command(epilog=f"Models that ship: {listed()}.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="Check the signature, too, against "
              "this public key (a PEM file).")  # fmt: skip
@click.option("--backend", help="litert, tflite-runtime, tensorflow or onnxruntime.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def verify(file: Path | None, key: Path | None, backend: str | None, as_json: bool) -> None:
    """Check that a model FILE is whole and computes here what it did where it was exported.

    By default the model that classifies; FILE may be the name of another that ships with the
    runtime. Golden outputs in the file, of images that both machines can draw, are computed
    again: no probability may differ by more than the file allows, which is 1/256 for an int8
    .tflite file in LiteRT.
    """
    from edgecifar.runtime.verification import lines
    from edgecifar.runtime.verification import verify as check

    found = check(file, key=key, backend=backend)
    click.echo(json.dumps(found.as_json(), indent=1) if as_json else "\n".join(lines(found)))
    if found.problem:
        raise EdgecifarError(found.problem)
