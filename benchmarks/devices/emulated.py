"""An emulated Raspberry Pi: the agent in qemu's user mode, on Debian's Python for Arm.

It shows what a file answers there, that everything imports, and how much memory it takes. Its
times say nothing about a device, so none are taken.
"""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecifar.benchmarks.devices.child import forget, lay_out, run_agent
from edgecifar.benchmarks.devices.parcel import Parcel, unpack
from edgecifar.benchmarks.devices.rootfs import ARM64, ARMHF, Architecture, prepare, python_of
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder, replace_file

_SYSTEM_FOLDERS = ("bin", "etc", "lib", "opt", "sbin", "usr", "var")
_FEATURES_64 = "fp asimd evtstrm crc32 cpuid"
_FEATURES_76 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
_FEATURES_32 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"


@dataclass(frozen=True)
class Board:
    """A board's name, qemu's name of its core, and what its /proc/cpuinfo says."""

    title: str
    cpu: str
    part: int
    features: str
    architecture: Architecture = ARM64

    @property
    def cpuinfo(self) -> str:
        """Return /proc/cpuinfo of a board with four such cores."""
        core = (
            "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: {}\nCPU implementer\t: 0x41\n"
            "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {:#05x}\nCPU revision\t: 3\n\n"
        )
        return "".join(core.format(index, self.features, self.part) for index in range(4))


BOARDS = {
    "pi5": Board("Raspberry Pi 5", "cortex-a76", 0xD0B, _FEATURES_76),
    "pi4": Board("Raspberry Pi 4", "cortex-a72", 0xD08, _FEATURES_64),
    "pi3": Board("Raspberry Pi 3", "cortex-a53", 0xD03, _FEATURES_64),
    "pi3-32": Board("Raspberry Pi 3, 32 bits", "cortex-a7", 0xC07, _FEATURES_32, ARMHF),
}


class EmulatedDevice:
    """A board of `BOARDS`, such as emulated:pi4."""

    remote = True
    timed = False

    def __init__(self, name: str, board: Board):
        self.name, self._short, self._board = f"emulated:{name}", name, board

    @classmethod
    def from_spec(cls, spec: str) -> "EmulatedDevice":
        """Read emulated:BOARD."""
        name = spec.partition(":")[2]
        if name not in BOARDS:
            raise EdgecifarError(f"{spec}: no such board: take one of {', '.join(BOARDS)}")
        return cls(name, BOARDS[name])

    def python(self, on_progress: Callable[[str], object] = lambda text: None) -> Path:
        """Return a script that is the board's Python, with edgecifar.runtime to import.

        Raises:
            EdgecifarError: qemu or a download is missing.

        """
        return self._launcher(prepare(self._board.architecture, on_progress))

    def measure(self, parcel: Parcel, on_progress: Callable[[str], object]) -> dict[str, Any]:
        """Carry out the parcel's bench under emulation, without times.

        Raises:
            EdgecifarError: qemu or a download is missing, or the agent failed.

        """
        root = prepare(self._board.architecture, on_progress)
        folder = self._folder(parcel)
        lay_out(folder, parcel, timed=False)
        python = str(self._launcher(root))
        command = [python, "-u", "-m", "edgecifar.runtime.agent", str(folder), python]
        result = run_agent(command, folder, on_progress, what="the emulated Python")
        board = f"{self._board.title} (emulated)"
        environment = result["environment"] | {"board": board, "cores": 4, "emulated": True}
        # These are the workstation's, which qemu lets through.
        host = ("governor", "frequency_mhz", "max_frequency_mhz", "temperature_c", "load_average")
        environment |= dict.fromkeys((*host, "memory_bytes"))
        told = {**result, "environment": environment, "environment_after": None}
        return unpack(parcel, told, self.name)

    def forget(self, parcel: Parcel) -> None:
        """Delete what the bench left in the cache; called once the result is stored."""
        forget(self._folder(parcel))

    def _folder(self, parcel: Parcel) -> Path:
        return cache_folder() / "emulated" / f"{self._short}-{parcel.key}"

    def _launcher(self, root: Path) -> Path:
        """Write the script that is this board's Python; the agent starts children with it.

        The files of a board lie beside it: qemu takes those of `-L` for the machine's own, and
        with the host's /proc/cpuinfo the interpreters crash.
        """
        overlay = root.with_name(f"{root.name}-{self._short}")
        overlay.mkdir(exist_ok=True)
        # Not /tmp, /home and the like: a link there leads programs away from this machine's files.
        for name in _SYSTEM_FOLDERS:
            if (root / name).exists():
                _link(overlay / name, root / name)
        (overlay / "proc").mkdir(exist_ok=True)
        replace_file(overlay / "proc" / "cpuinfo", self._board.cpuinfo.encode())
        libraries = self._board.architecture.libraries
        found = ":".join(str(root / part) for part in libraries.split(":") if part)
        options = [
            *("-cpu", self._board.cpu, "-L", str(overlay)),
            *(("-E", f"LD_LIBRARY_PATH={found}") if found else ()),
            str(python_of(root)),
        ]
        site = Path("opt/site")
        script = (
            f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(self._modules(root))}:"
            f"{shlex.quote(str(root / site))}\nexport PYTHONDONTWRITEBYTECODE=1\n"
            # Another qemu may be asked for, such as one that takes plugins.
            f'unset PYTHONHOME\nexec "${{EDGECIFAR_QEMU:-{self._board.architecture.qemu}}}" '
            f'{shlex.join(options)} "$@"\n'
        )
        path = overlay / "python"
        replace_file(path, script.encode(), mode=0o755)
        return path

    def _modules(self, root: Path) -> str:
        """Return a folder with edgecifar.runtime alone: the workstation's site packages are x86."""
        from edgecifar import runtime

        modules = root.with_name(f"{root.name}-modules") / "edgecifar"
        modules.mkdir(parents=True, exist_ok=True)
        _link(modules / "runtime", Path(runtime.__file__).parent)
        return str(modules.parent)


def _link(path: Path, target: Path) -> None:
    """Let `path` lead to `target`, whichever process gets there first."""
    if path.is_symlink() and Path(os.readlink(path)) == target:
        return
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.rename(path)
