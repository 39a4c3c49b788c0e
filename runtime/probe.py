"""Open a model in a child process: what it costs there, or how it dies, is only the child's.

The same child tells a bench its load time, first inference and peak memory, free of what
the parent has loaded. Run as ``python -m edgecifar.runtime.probe KIND BACKEND THREADS``
with the model on its standard input and perhaps a BATCH after THREADS.
"""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.modelfile import ModelFile

_TIMEOUT = 120  # seconds; the slowest Pi needs about 10 for import, load and the runs below
_RUNS = 10  # enough for lazily allocated memory to be there
_checked: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Probe:
    """What a fresh process measured: times, and memory in bytes.

    ``peak_memory_bytes`` is the largest resident set of the whole process (Python, NumPy and
    interpreter included), ``model_memory_bytes`` how far the model made it grow.
    """

    load_ms: float
    first_us: float
    peak_memory_bytes: int
    model_memory_bytes: int


def probe(model: ModelFile, backend: str, *, threads: int = 1, batch: int = 1) -> Probe:
    """Load and run the model in a child process.

    Raises:
        EdgecifarError: the child can't load it, crashes or hangs.

    """
    options = [model.kind, backend, str(threads), str(batch)]
    command = [sys.executable, "-m", "edgecifar.runtime.probe", *options]
    try:
        child = subprocess.run(
            command, input=model.payload, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise EdgecifarError(
            f"{model.path}: it hangs in {backend} for {_TIMEOUT} s: copy or export it again"
        ) from None
    if child.returncode == -signal.SIGKILL:  # the kernel's way to say so
        raise EdgecifarError(
            f"{model.path}: the system killed {backend} while it ran it, most likely for want of "
            "memory: close other programs, or take a smaller model"
        )
    if child.returncode < 0:
        raise EdgecifarError(
            f"{model.path}: it crashes {backend} ({_signal_name(-child.returncode)}): "
            "the file is damaged, or needs another version of the interpreter"
        )
    if child.returncode:
        lines = child.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise EdgecifarError(f"{model.path}: {lines[-1]}")
    _checked.add((model.sha256, backend))
    return Probe(**json.loads(child.stdout))


def check_once(model: ModelFile, backend: str) -> None:
    """Probe the model unless this process has done so before; needs a Python to start."""
    if (model.sha256, backend) not in _checked and sys.executable:
        probe(model, backend)


def _measure(kind: str, backend_name: str, threads: int, batch: int = 1) -> Probe:
    import numpy as np

    from edgecifar.runtime.interpreters import choose_backend, open_unchecked

    backend = choose_backend(kind, backend_name)  # imports the library
    before = _resident_bytes("VmRSS")
    model = ModelFile(Path("model"), kind, sys.stdin.buffer.read(), None, None, 0)
    start = time.perf_counter_ns()
    interpreter = open_unchecked(model, backend, threads=threads, batch=batch)
    loaded = time.perf_counter_ns()
    image = np.zeros(interpreter.input.shape, interpreter.input.dtype)
    interpreter.run(image)
    first = time.perf_counter_ns()
    for _ in range(_RUNS):
        interpreter.run(image)
    peak = _resident_bytes("VmHWM")
    return Probe((loaded - start) / 1e6, (first - loaded) / 1e3, peak, max(0, peak - before))


def _resident_bytes(field: str) -> int:
    """Read VmRSS or VmHWM, which start at 0 with the program, unlike getrusage's maximum."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):  # macOS, where the unit is bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _main(arguments: list[str]) -> int:
    kind, backend, *numbers = arguments
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is expected, not news
    except ImportError:
        pass
    try:
        result = _measure(kind, backend, *map(int, numbers))
    except EdgecifarError as error:
        print(str(error).removeprefix("model: "), file=sys.stderr)
        return 1
    except Exception as error:
        print(f"it can't be run ({' '.join(str(error).split())[:300]})", file=sys.stderr)
        return 1
    print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
