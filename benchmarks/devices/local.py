"""The machine that the command runs on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecifar.runtime import environment
from edgecifar.runtime.benchmark import Settings
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.stored import bench_to_file


class LocalDevice:
    """The machine that the command runs on; its timing loop runs in this very process."""

    remote = False
    timed = True
    name = "local"

    @classmethod
    def from_spec(cls, spec: str) -> "LocalDevice":
        """Take `local`, which has no options."""
        if spec != cls.name:
            raise EdgecifarError(
                f"{spec} is no device: take local, or local:without-amx, or ssh://host"
            )
        return cls()

    @staticmethod
    def features() -> list[str]:
        """Return the processor's features that decide how fast kernels are."""
        return environment.cpu_features()

    def measure_to_file(
        self,
        files: tuple[Path, ...],
        output: Path | None,
        *,
        data: Path | None,
        settings: Settings,
        on_progress: Callable[[str], object],
    ) -> dict[str, Any]:
        """Measure here and store the result, going on from an interrupted run."""
        return bench_to_file(files, output, data=data, settings=settings, on_progress=on_progress)
