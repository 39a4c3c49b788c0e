"""The machine that the command runs on."""

from edgecifar.runtime import environment
from edgecifar.runtime.errors import EdgecifarError


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
