"""Open a model in a child process: what it costs there, or how it dies, is only the child's.

The same child tells a bench its load time, first inference and peak memory, free of what
the parent has loaded. Its arguments are KIND BACKEND THREADS BATCH, and on its standard input are
a line of JSON, which names the interpreter that the model was checked with, and the model. What has
passed is remembered in the cache, since each start would pay for a child.
"""

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError, NoInterpreterError
from edgecifar.runtime.files import cache_folder
from edgecifar.runtime.modelfile import ModelFile

_TIMEOUT = 120  # seconds; the slowest Pi needs about 10 for import, load and the runs below
_LONG_ENOUGH = 20e9  # ns
_RUNS = 10  # enough for lazily allocated memory to be there
_CHILD = "from edgecifar.runtime.probe import main; sys.exit(main(sys.argv[1:]))"
_NO_INTERPRETER = 3  # the child's exit status
_INSIDE = "EDGECIFAR_PROBE"  # set in the child, and in all that a mistaken one starts
_checked: set[tuple[str, str]] = set()


class CrashError(EdgecifarError):
    """The child that ran a model died of the signal ``number``."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


@dataclass(frozen=True)
class Probe:
    """What a fresh process measured: times, and memory in bytes.

    ``peak_memory_bytes`` is the largest resident set of the whole process (Python, NumPy and
    interpreter included), ``model_memory_bytes`` how far the model made it grow; both are None on
    Windows, which tells neither.
    """

    load_ms: float
    first_us: float
    peak_memory_bytes: int | None
    model_memory_bytes: int | None


def probe(model: ModelFile, backend: str, *, threads: int = 1, batch: int = 1) -> Probe:
    """Load and run the model in a child process.

    Raises:
        CrashError: a signal ended the child.
        NoInterpreterError: the interpreter doesn't work, whatever the model.
        EdgecifarError: the child can't load it, or hangs.

    """
    import subprocess  # milliseconds that those don't pay whose model is known

    from edgecifar.runtime.compatibility import checked_with

    told = json.dumps(checked_with(model)).encode() + b"\n"
    environment = {**os.environ, _INSIDE: "1"}
    command = child(_CHILD, model.kind, backend, str(threads), str(batch))
    try:
        done = subprocess.run(
            command,
            input=told + model.payload,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise EdgecifarError(
            f"{model.path}: it hangs in {backend} for {_TIMEOUT} s: copy or export it again"
        ) from None
    if done.returncode < 0:
        raise CrashError(f"{model.path}: {_ending(-done.returncode, backend)}", -done.returncode)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        kind = NoInterpreterError if done.returncode == _NO_INTERPRETER else EdgecifarError
        raise kind(f"{model.path}: {lines[-1]}")
    try:
        found = Probe(**json.loads(done.stdout))
    except (ValueError, TypeError):
        raise EdgecifarError(
            f"{model.path}: it can't be tried first, since {sys.executable} is no Python: "
            "set sys.executable to one, or to '' to go without"
        ) from None
    _checked.add((model.sha256, backend))
    return found


def check_once(model: ModelFile, backend: str) -> None:
    """Probe the model unless this machine has done so before; needs a Python to start.

    A frozen program has none: what it would start is itself, which opens the model again.
    """
    if (model.sha256, backend) in _checked or not sys.executable:
        return
    if getattr(sys, "frozen", False) or _INSIDE in os.environ:
        return
    mark = _mark(model, backend)
    if mark is None or not os.path.exists(mark):  # which is false, too, where we mayn't look
        probe(model, backend)
        _leave(mark)
    _checked.add((model.sha256, backend))


def child(code: str, *arguments: str) -> list[str]:
    """Return the command of a Python that runs ``code``, for which `sys` is imported.

    It finds the modules that this one finds, however it came to do so, and its own first. With -c
    and -m Python looks for modules in the working folder first, where a random.py may be that isn't
    Python's; -P, which says otherwise, is new in 3.11, and -I forgets PYTHONPATH.
    """
    ours = [os.path.abspath(path) for path in sys.path if path]
    start = (
        "import sys; sys.path[:] = filter(None, sys.path); "
        f"sys.path += [path for path in {ours} if path not in sys.path]; "
    )
    return [sys.executable, "-c", start + code, *arguments]


def _mark(model: ModelFile, backend: str) -> Path | None:
    """Return the empty file that says that the model runs; None where there is no cache."""
    from edgecifar.runtime.backends import BACKENDS

    try:
        folder = cache_folder() / "probed"
    except RuntimeError:
        return None
    library = BACKENDS[backend]
    # The library's own word costs nothing if it is imported, its distribution's 15 ms.
    module = sys.modules.get(library.distributions[0].replace("-", "_"))
    version = getattr(module, "__version__", None) or library.version
    return folder / f"{model.sha256}-{backend}-{version}"


def _leave(mark: Path | None) -> None:
    if mark is not None:
        with suppress(OSError):  # where none can be written, the next start pays for a child again
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _ending(number: int, backend: str) -> str:
    import signal

    from edgecifar.runtime.ailments import KILLED

    if number == KILLED:  # the kernel's way to say so
        return (
            f"the system killed {backend} while it ran it, most likely for want of memory: "
            "close other programs, or take a smaller model"
        )
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return (
        f"it crashes {backend} ({name}): the file is damaged, or needs another version of the "
        "interpreter"
    )


def _measure(kind: str, backend_name: str, threads: int, batch: int = 1) -> Probe:
    import numpy as np

    from edgecifar.runtime.interpreters import choose_backend, open_unchecked

    backend = choose_backend(kind, backend_name)  # imports the library
    before = resident_bytes("VmRSS")
    metadata = {"golden": {"backend": json.loads(sys.stdin.buffer.readline())}}
    model = ModelFile(Path("model"), kind, sys.stdin.buffer.read(), metadata, None, 0)
    start = time.perf_counter_ns()
    interpreter = open_unchecked(model, backend, threads=threads, batch=batch)
    loaded = time.perf_counter_ns()
    image = np.zeros(interpreter.input.shape, interpreter.input.dtype)
    interpreter.run(image)
    first = time.perf_counter_ns()
    for _ in range(_RUNS):
        if time.perf_counter_ns() - loaded > _LONG_ENOUGH:  # it is slow, and doesn't hang
            break
        interpreter.run(image)
    peak = resident_bytes("VmHWM")
    grown = None if peak is None or before is None else max(0, peak - before)
    return Probe((loaded - start) / 1e6, (first - loaded) / 1e3, peak, grown)


def resident_bytes(field: str) -> int | None:
    """Read VmRSS or VmHWM, which start at 0 with the program, unlike getrusage's maximum.

    Where the system doesn't tell them, the largest resident set so far stands for either; None
    where it doesn't tell that.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):  # macOS, or a sandbox
        try:
            import resource
        except ImportError:  # Windows
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(arguments: list[str]) -> int:
    """Be the child: print what was measured as JSON, or on standard error why it can't be."""
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
        return _NO_INTERPRETER if isinstance(error, NoInterpreterError) else 1
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        print(f"it can't be run ({reason}): copy or export it again", file=sys.stderr)
        return 1
    print(json.dumps(asdict(result)))
    return 0
