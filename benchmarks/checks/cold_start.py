"""How long the first answer takes: `edgecifar classify` against importing what it can't do without.

    python -m edgecifar.benchmarks.checks.cold_start

The limit is 1.35 times the wall time of a Python that only imports NumPy and LiteRT, plus 60 ms.
Both commands take turns, so that other load meets them alike, and find their modules compiled, as
pip leaves them, whatever the environment says of bytecode.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edgecifar.benchmarks.program import Program
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.golden import draw
from edgecifar.runtime.shipped import default_model

FACTOR, ALLOWANCE_MS = 1.35, 60.0
_IMPORTS = "import numpy, ai_edge_litert.interpreter"
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True)
class ColdStart:
    """Median milliseconds of the bare imports and of the command, and the command's limit."""

    imports_ms: float
    command_ms: float

    @property
    def limit_ms(self) -> float:
        """What the command may take."""
        return FACTOR * self.imports_ms + ALLOWANCE_MS


def measure(model: Path, rounds: int = 20) -> ColdStart:
    """Time both commands `rounds` times each, after one round that compiles and fills the caches.

    Raises:
        EdgecifarError: one of them fails.

    """
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
        photo = Path(folder) / "photo.png"
        Image.fromarray(draw(0, 240, 320)).save(photo)
        script = Path(sys.executable).with_name("edgecifar")
        imports = [sys.executable, "-c", _IMPORTS]
        command = [str(script), "classify", str(photo), "--model", str(model)]
        environment = _compiling(Path(folder) / "bytecode")
        pairs = [
            (_milliseconds(imports, environment), _milliseconds(command, environment))
            for _ in range(1 + rounds)
        ]
    bare, ours = zip(*pairs[1:], strict=True)
    return ColdStart(statistics.median(bare), statistics.median(ours))


def _compiling(cache: Path) -> dict[str, str]:
    """Environment in which Python keeps bytecode, in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    return {**kept, "PYTHONPYCACHEPREFIX": str(cache)}


def _milliseconds(command: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EdgecifarError(
            f"{command[0]} is missing: install edgecifar-runtime in this environment"
        ) from error
    taken = time.perf_counter() - start
    if done.returncode:
        raise EdgecifarError(f"{command[0]} failed ({done.stderr.strip()[-200:]}): mend that first")
    return 1000 * taken


@click.command(cls=Program)
@click.option("--model", type=click.Path(path_type=Path), help="By default the one that ships.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
def main(model: Path | None, rounds: int) -> None:
    """Measure the cold start; exit status 1 if it is over its limit."""
    found = measure(model or default_model(), rounds)
    click.echo(
        f"imports {found.imports_ms:.0f} ms, edgecifar classify {found.command_ms:.0f} ms, "
        f"limit {found.limit_ms:.0f} ms ({FACTOR} x imports + {ALLOWANCE_MS:.0f} ms)"
    )
    sys.exit(found.command_ms > found.limit_ms)


if __name__ == "__main__":
    main()
