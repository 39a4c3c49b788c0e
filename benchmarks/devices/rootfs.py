"""A Raspberry Pi's files in the cache: Debian's Python for Arm, and the interpreters' wheels.

Nothing is installed on this machine and nothing is booted: packages are unpacked into a folder,
and qemu's user-mode emulator runs the Python in it (`edgecifar.benchmarks.devices.emulated`).
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecifar.benchmarks.devices.transport import UnreachableError
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder, try_lock

_SUITE = "bookworm"
_PYTHON = "3.11"  # of that suite
_MIRROR = "EDGECIFAR_DEBIAN_MIRROR"  # environment variable for machines that aren't Debian
_TOOLS = ("debootstrap", "dpkg")
_SBIN = ("/usr/sbin", "/sbin")
_PACKAGES = dict.fromkeys(("qemu-aarch64-static", "qemu-arm-static"), "qemu-user-static")
# As wget and pip say that they got no answer; a mirror that answers and lacks the file isn't one.
_NO_ANSWER = re.compile(
    r"unable to resolve host|Failed to resolve|[Nn]ame resolution|Name or service not known|"
    r"Connection refused|[Tt]imed out|Network is unreachable|No route to host|NewConnectionError"
)


@dataclass(frozen=True)
class Architecture:
    """What one kind of processor needs: Debian's name, pip's platforms, packages of both."""

    debian: str
    qemu: str
    platforms: tuple[str, ...]
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    libraries: str


ARM64 = Architecture(
    debian="arm64",
    qemu="qemu-aarch64-static",
    platforms=tuple(f"manylinux{v}_aarch64" for v in ("_2_28", "_2_27", "_2_17", "2014")),
    packages=("python3",),
    wheels=(
        "ai-edge-litert>=2.1,<3", "numpy>=2,<3", "flatbuffers", "protobuf", "ml_dtypes", "tqdm",
        "typing_extensions", "backports.strenum", "Pillow>=10", "click>=8.1,<9",
    ),
    libraries="",
)  # fmt: skip
ARMHF = Architecture(
    debian="armhf",
    qemu="qemu-arm-static",
    platforms=("manylinux_2_34_armv7l",),
    packages=("python3", "python3-numpy", "python3-pil", "python3-click"),
    wheels=("tflite-runtime==2.14.0",),
    libraries="usr/lib/arm-linux-gnueabihf/blas:usr/lib/arm-linux-gnueabihf/lapack",
)


def prepare(
    architecture: Architecture, on_progress: Callable[[str], object] = lambda text: None
) -> Path:
    """Return the folder with the files of such a machine, made at the first call.

    It takes about a minute, 400 MB, and the mirrors that this machine's apt and pip use. A
    folder is only taken for ready once it bears its final name; of several processes that share
    the cache one makes it and the others wait.

    Raises:
        UnreachableError: a mirror doesn't answer.
        EdgecifarError: a tool is missing, or a download failed.

    """
    root = cache_folder() / "rootfs" / f"{_SUITE}-{architecture.debian}"
    ready = root.is_dir()
    _require_tools(architecture.qemu, *(() if ready else (*_TOOLS, *_as_root())))
    if ready:
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root.parent.with_name(".rootfs.lock"), on_progress):
        if not root.is_dir():
            _make(architecture, root, on_progress)
    return root


def _require_tools(*tools: str) -> None:
    missing = [tool for tool in tools if not shutil.which(tool, path=_path())]
    if missing:
        packages = sorted({_PACKAGES.get(tool, tool) for tool in missing})
        raise EdgecifarError(
            f"an emulated device needs {' and '.join(missing)}: "
            f"`apt-get install {' '.join(packages)}`"
        )


def _path() -> str:
    """Return where programs are sought, with the folder of debootstrap, which only root's has."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))


def _as_root() -> tuple[str, ...]:
    """Return the command that runs others as if root did, which debootstrap insists on."""
    return () if os.geteuid() == 0 else ("fakeroot",)


@contextlib.contextmanager
def _locked(path: Path, on_progress: Callable[[str], object]) -> Iterator[None]:
    """Let one process at a time in; the lock goes with the process, however it ends."""
    with path.open("w") as stream:
        if not try_lock(stream):
            on_progress("waiting for another process that fetches the same")
            while not try_lock(stream):
                time.sleep(1)
        yield


def _make(architecture: Architecture, root: Path, on_progress: Callable[[str], object]) -> None:
    for left in root.parent.glob(".partial-*"):  # by killed processes, since no other is here
        shutil.rmtree(left, ignore_errors=True)
    partial = root.with_name(f".partial-{os.getpid()}-{root.name}")
    try:
        on_progress(f"fetching Debian's {architecture.debian} packages, once")
        _debian(architecture, partial)
        on_progress("fetching the interpreter's wheels, once")
        _wheels(architecture, partial / "opt" / "site")
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def python_of(root: Path) -> Path:
    """Return the emulated machine's Python."""
    return root / "usr" / "bin" / f"python{_PYTHON}"


def _debian(architecture: Architecture, root: Path) -> None:
    """Download with debootstrap's first stage, and unpack what the second would install."""
    _call(
        [
            *_as_root(),
            "debootstrap",
            f"--arch={architecture.debian}",
            "--foreign",
            "--variant=minbase",
            f"--include={','.join(architecture.packages)}",
            _SUITE,
            str(root),
            mirror(),
        ],
        log=root / "debootstrap" / "debootstrap.log",
    )
    archives = root / "var" / "cache" / "apt" / "archives"
    for package in sorted(archives.glob("*.deb")):
        _call(["dpkg", "-x", str(package), str(root)])
        package.unlink()


def _wheels(architecture: Architecture, site: Path) -> None:
    platforms = [word for name in architecture.platforms for word in ("--platform", name)]
    _call(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"),
            str(site),
            *platforms,
            *("--python-version", _PYTHON.replace(".", ""), "--only-binary=:all:"),
            *architecture.wheels,
        ]
    )


def mirror(etc: Path = Path("/etc/apt")) -> str:
    """Return the Debian mirror that the environment names, or apt uses on this machine."""
    found = os.environ.get(_MIRROR) or next(_mirrors(etc), None)
    if found is None:
        raise EdgecifarError(f"apt names no Debian mirror here: set {_MIRROR} to the URL of one")
    return found


def _mirrors(etc: Path) -> Iterator[str]:
    folder = etc / "sources.list.d"
    for path in [etc / "sources.list", *sorted(folder.glob("*.list"))]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        for url in re.findall(r"^deb\s+(?:\[.*?\]\s+)?(\S+)", text, re.M):
            if re.search(r"/debian/?$", url):
                yield url
    for path in sorted(folder.glob("*.sources")):
        for line in re.findall(r"^URIs:\s*(.+)$", path.read_text(errors="replace"), re.M):
            yield from (url for url in line.split() if re.search(r"/debian/?$", url))


def _call(command: list[str], log: Path | None = None) -> None:
    """Run a command; `log` is where it writes what it doesn't print."""
    environment = os.environ | {"PATH": _path()}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode == 0:
        return
    lines = (done.stderr + done.stdout).strip().splitlines() or ["no reason given"]
    logged = log.read_text(errors="replace").splitlines() if log and log.is_file() else []
    unanswered = [line for line in (*logged, *lines) if _NO_ANSWER.search(line)]
    kind, why = (UnreachableError, unanswered[-1]) if unanswered else (EdgecifarError, lines[-1])
    raise kind(
        f"{Path(command[0]).name} failed while an emulated device was prepared "
        f"({why.strip()}): mend that and run it again"
    )
