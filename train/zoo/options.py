"""The argument by which commands are told a run."""

from pathlib import Path
from typing import Any

import click


class RunPath(click.Path):
    """A run's folder, or the name of a model that ships; which of them it is gets said."""

    def __init__(self) -> None:
        """Take any path: what is wrong with it is told by what opens it."""
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, which has a name."""
        from edgecifar.train import zoo
        from edgecifar.train.files import named

        path = named(super().convert(value, param, ctx))
        shipped = None if (path / "run.json").exists() else zoo.find(str(path))
        if shipped:
            own = Path("runs") / path
            hint = f"; your own is {own}" if (own / "run.json").exists() else ""
            top1 = shipped.test("float")["top1"]
            click.echo(
                f"{path}: the float model that ships, {top1:.2f} % top-1 (the int8 file that ships "
                f"was fine-tuned from it: `edgecifar info {path}`){hint}",
                err=True,
            )
        return path
