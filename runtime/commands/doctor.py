"""``edgecifar doctor``: which interpreter works on this machine, and what to do about the rest."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(as_json: bool) -> None:
    """Try the interpreters, describe the machine and say what suits it.

    Exit status 1 if no interpreter for .tflite files works, or NumPy or Pillow don't.
    """
    from edgecifar.runtime.doctor import examine, lines

    examined = examine()
    click.echo(json.dumps(examined, indent=1) if as_json else "\n".join(lines(examined)))
    usable = any(row["works"] for row in examined["interpreters"] if row["name"] != "onnxruntime")
    if not (usable and all(row["works"] for row in examined["needed"])):
        raise click.exceptions.Exit(1)
