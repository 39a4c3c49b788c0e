"""A device behind plain SSH: copy what is missing there, run the agent, fetch the result.

All that is copied lies below ~/.cache/edgecifar/device on the device: files named by content
(`store`), the runtime's own modules by version, and a folder a bench, which goes when its
result is stored here; the others, and benches that nobody took up again, go after a month without
use. A lost connection is made again, and the agent goes on with the next round.
"""

import hashlib
import json
import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecifar.benchmarks.devices.child import UNUSED_DAYS
from edgecifar.benchmarks.devices.parcel import Parcel, parse_message, runtime_wheel, unpack
from edgecifar.benchmarks.devices.transport import Connection, Target, UnreachableError, parse
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import parse as parse_result

_CACHE = '"${XDG_CACHE_HOME:-$HOME/.cache}"/edgecifar/device'
_PAUSES = (1, 2, 4, 8, 15, 30)  # seconds before each attempt to connect again
_NEEDED = """
import importlib.util as u, sys
if sys.version_info < (3, 10): sys.exit("Python %d.%d is too old: install 3.10 or newer, or "
    "name one as ssh://host?python=PATH" % sys.version_info[:2])
there = lambda names: any(u.find_spec(name) for name in names.split("|"))
print(int(all(map(there, sys.argv[1:]))))
"""
_ALWAYS = ("numpy", "PIL")
_INTERPRETERS = {".tflite": "ai_edge_litert|tflite_runtime|tensorflow", ".onnx": "onnxruntime"}
# A 32-bit Python on a 64-bit kernel takes that for its own system, and pip looks for LiteRT, which
# has no 32-bit wheel; linux32 makes the kernel call itself armv8l.
_LINUX32 = (
    """$([ "$(uname -m)" = aarch64 ] && """
    """[ "$({python} -c 'import struct; print(struct.calcsize("P"))')" = 4 ] && """
    """command -v linux32)"""
)


class SshDevice:
    """A host that `ssh` reaches, such as ssh://pi@raspberrypi."""

    remote = True
    timed = True

    def __init__(self, target: Target):
        self.name = target.spec
        self._target = target

    @classmethod
    def from_spec(cls, spec: str) -> "SshDevice":
        """Read ssh://[user@]host[:port][?python=PATH]."""
        return cls(parse(spec))

    def measure(self, parcel: Parcel, on_progress: Callable[[str], object]) -> dict[str, Any]:
        """Carry out the parcel's bench there and return its result.

        Raises:
            EdgecifarError: the host can't be reached, or something is missing there.

        """
        with Connection(self._target) as connection:
            job = _Job(connection, parcel, on_progress)
            job.start()
            pauses = iter(_PAUSES)
            while True:
                try:
                    return unpack(parcel, job.finish(), self.name)
                except UnreachableError as error:
                    if job.finished_rounds():
                        pauses = iter(_PAUSES)
                    pause = next(pauses, None)
                    if pause is None:
                        raise
                    on_progress(f"{error}; connecting again in {pause} s")
                    time.sleep(pause)
                    connection.reconnect()

    def forget(self, parcel: Parcel) -> None:
        """Delete what the bench left there, and what none has used for a month.

        Called once the result is stored here.
        """
        with Connection(self._target) as connection:
            connection.run(
                f"cd {_CACHE} || exit 0; rm -rf {_bench_name(parcel, self._target)}; "
                f"find store/* edgecifar_runtime-* bench-* *.part -prune -mtime +{UNUSED_DAYS} "
                "-exec rm -rf {} + 2>/dev/null || :"
            )


def _bench_name(parcel: Parcel, target: Target) -> str:
    """Return the folder of a bench on the device: what one Python measured is not another's."""
    digest = hashlib.sha256(f"{parcel.key} {target.python or ''}".encode()).hexdigest()
    return f"bench-{digest[:24]}"


def _partial(there: str) -> str:
    """Return what a quoted path is called until it is whole; its shell's number tells two apart."""
    return f"{there}.$$.part"


class _Job:
    """One bench on one host; every step can be done again."""

    def __init__(
        self, connection: Connection, parcel: Parcel, on_progress: Callable[[str], object]
    ):
        self._connection, self._parcel, self._tell = connection, parcel, on_progress
        self._home = ""  # on the device, as are the others
        self._folder = ""
        self._bench = ""
        self._python = ""
        self._modules = ""
        self._settled = False
        self._rounds = 0

    def start(self) -> None:
        """Make the first contact, whose failure is final."""
        self._tell("connecting")
        told = self._connection.run(f"pwd; echo {_CACHE}").splitlines()
        if len(told) != 2:
            raise EdgecifarError(
                f"its shell prints more than was asked ({told[0] if told else 'nothing'}): let its "
                "start-up files print nothing unless a terminal is there"
            )
        self._home, self._folder = told
        self._bench = f"{self._folder}/{_bench_name(self._parcel, self._connection.target)}"

    def finish(self) -> dict[str, Any]:
        """Go through all steps, skipping what is done."""
        if not self._settled:
            self._send_files()
            self._prepare_python()
            self._settled = True
        self._run_agent(self._bench)
        text = self._connection.run(f"cat {shlex.quote(self._bench)}/result.json")
        return parse_result(text.encode(), "the device's result")

    def finished_rounds(self) -> int:
        """Return how many rounds were finished since the last time that this was asked."""
        finished, self._rounds = self._rounds, 0
        return finished

    def _send_files(self) -> None:
        store = shlex.quote(f"{self._folder}/store")
        bench = shlex.quote(self._bench)
        used = shlex.join(self._parcel.files)
        made = self._connection.run(
            f'mkdir -p {store} {bench} && cd {store} && for f in *; do echo "$f"; done; '
            f"touch -c {used} 2>/dev/null || :"
        )
        present = set(made.split("\n"))
        for name, path in self._parcel.files.items():
            if name not in present:
                self._tell(f"copying {path.name}")
                self._put(path, f"{self._folder}/store/{name}")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as request:
            json.dump(self._parcel.request, request)
            request.flush()
            self._put(Path(request.name), f"{self._bench}/request.json")

    def _put(self, source: Path, there: str) -> None:
        """Copy a file; it only gets its name when it is whole."""
        size, there, partial = source.stat().st_size, shlex.quote(there), _partial(there)
        self._connection.run(
            f"cat > {partial} && [ $(wc -c < {partial}) -eq {size} ] "
            f"&& mv {partial} {there} || {{ rm -f {partial}; echo 'the copy is incomplete' "
            ">&2; exit 1; }",
            source=source,
        )

    def _prepare_python(self) -> None:
        """Find a Python with NumPy, Pillow and what runs these files; else make an environment."""
        with tempfile.TemporaryDirectory() as folder:
            wheel = runtime_wheel(Path(folder))
            self._modules = f"{self._folder}/{wheel.stem}"
            base = self._connection.target.python or "python3"
            if "/" in base and not base.startswith("/"):
                base = f"{self._home}/{base.removeprefix('~/')}"
            said = self._check(base)
            if not said:
                raise EdgecifarError(
                    f"there is no {base}: install Python 3.10 or newer there, or name one as "
                    "ssh://host?python=PATH"
                )
            environment = f"{self._folder}/{self._environment_name()}"
            made = f"{environment}/bin/python"
            ready = base if said == "1" else made if self._check(made) == "1" else None
            self._python = ready or base
            self._unpack(wheel)
            if not ready:
                self._make_environment(environment, wheel)
                self._python = made

    def _environment_name(self) -> str:
        """Return the folder of the environment for a Python and these files; it never changes."""
        named = self._connection.target.python
        digest = hashlib.sha256(named.encode()).hexdigest()[:12] if named else ""
        return "-".join(filter(None, ("environment", digest, "onnx" if self._onnx else "")))

    @property
    def _onnx(self) -> bool:
        return any(name.endswith(".onnx") for name in self._parcel.files)

    def _check(self, python: str) -> str:
        """Say whether a Python has what runs these files: 1, 0, or nothing if there is none."""
        return self._run_python(self._checking(python)).strip()

    def _checking(self, python: str) -> str:
        """Return the command that prints what `_check` tells."""
        kinds = {Path(name).suffix for name in self._parcel.files} & _INTERPRETERS.keys()
        needed = shlex.join([*_ALWAYS, *(_INTERPRETERS[kind] for kind in sorted(kinds))])
        quoted = shlex.quote(python)
        return f"! command -v {quoted} >/dev/null || {quoted} -c {shlex.quote(_NEEDED)} {needed}"

    def _unpack(self, wheel: Path) -> None:
        """Lay the runtime's modules out there, unless these very ones are there."""
        there = shlex.quote(self._modules)
        if self._connection.run(f"touch -c {there}; [ -d {there} ] && echo yes || :").strip():
            return
        self._tell("copying the runtime")
        self._put(wheel, f"{self._folder}/{wheel.name}")
        archive, partial = shlex.quote(f"{self._folder}/{wheel.name}"), _partial(there)
        self._run_python(
            f"{shlex.quote(self._python)} -m zipfile -e {archive} {partial} && "
            f"if [ -d {there} ]; then rm -rf {partial}; else mv {partial} {there}; fi"
        )

    def _make_environment(self, environment: str, wheel: Path) -> None:
        """Make it elsewhere and put it in its place: what is there is whole, whoever made it."""
        self._tell("installing the runtime, once")
        archive = shlex.quote(f"{self._folder}/{wheel.name}")
        there, python = shlex.quote(environment), shlex.quote(self._python)
        if not self._run_python(f"if {python} -c 'import ensurepip'; then echo yes; fi"):
            raise EdgecifarError(
                "its Python can make no environment: install what that takes there "
                "(`sudo apt install python3-venv`)"
            )
        self._put(wheel, f"{self._folder}/{wheel.name}")
        partial = _partial(there)
        pip = f"{_LINUX32.format(python=python)} {partial}/bin/python -m pip install --quiet"
        self._run_python(
            f"{{ {python} -m venv {partial} && {pip} {archive}{'[onnx]' if self._onnx else ''}; }} "
            f"1>&2 || {{ rm -rf {partial}; exit 1; }}; "
            f'if [ "$({self._checking(f"{environment}/bin/python")})" = 1 ]; '
            f"then rm -rf {partial}; else rm -rf {there}; mv {partial} {there}; fi"
        )

    def _run_python(self, command: str, **how: Any) -> str:
        """Run it in a folder without modules: Python takes those of the current one first."""
        return self._connection.run(f"cd {shlex.quote(self._bench)} || exit; {command}", **how)

    def _run_agent(self, bench: str) -> None:
        ends: dict[str, Any] = {}

        def on_line(line: str) -> None:
            message = parse_message(line)
            if "progress" in message:
                self._rounds += message["progress"].startswith("round ")
                self._tell(message["progress"])
            else:
                ends.update(message)

        command = f"{shlex.quote(self._python)} -u -m edgecifar.runtime.agent {shlex.quote(bench)}"
        modules = shlex.quote(self._modules)
        try:
            # Not by exec: ssh tells nothing of a command that a signal ends, and a shell does.
            self._run_python(f"PYTHONPATH={modules} {command}; exit $?", on_line=on_line)
        except UnreachableError:
            if not ends:
                raise
        except EdgecifarError:
            if "error" not in ends:
                raise
        if "error" in ends:
            raise EdgecifarError(ends["error"])
        if "done" not in ends:
            raise UnreachableError("the connection broke while it measured")
