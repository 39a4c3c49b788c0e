"""A bench whose result goes to a file, and that goes on where a killed one stood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file

if TYPE_CHECKING:
    from edgecifar.runtime.benchmark import Settings


@dataclass(frozen=True)
class Outcome:
    """What a device gave: a result, or one line on why there is none."""

    device: str
    result: dict[str, Any] | None = None
    error: str | None = None

    @property
    def errors(self) -> list[str]:
        """Everything that went wrong, one line each."""
        if self.error:
            return [f"{self.device}: {self.error}"]
        return [row["error"] for row in (self.result or {"models": []})["models"] if "error" in row]


def bench_to_file(
    files: Sequence[Path],
    output: Path | None,
    *,
    data: Path | None,
    settings: "Settings",
    on_progress: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Measure on this machine and store the result; see `benchmark.bench`.

    Until it is stored, what is finished lies in a journal beside it, which the next call uses.
    """
    from edgecifar.runtime.benchmark import bench

    journal = journal_of(output) if output else None
    result = bench(files, data=data, settings=settings, journal=journal, on_progress=on_progress)
    if output:
        if not journal.exists():
            raise EdgecifarError(f"{output}: another bench has ended there: --force replaces it")
        store(output, result)
    return result


def store(output: Path, result: dict[str, Any]) -> None:
    """Write a result, and delete the journal that led to it."""
    from edgecifar.runtime.results import as_bytes  # and with it NumPy, which no help needs

    replace_file(output, as_bytes(result))
    journal_of(output).unlink(missing_ok=True)


def journal_of(output: Path) -> Path:
    """Return where a bench keeps what it has finished."""
    if not output.parent.is_dir():
        raise EdgecifarError(f"{output.parent}: no such folder: create it first")
    return output.with_name(f".{output.name}.journal")
