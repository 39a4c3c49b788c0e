import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import ailments, doctor, shipped
from edgecifar.runtime.advice import advise
from edgecifar.runtime.ailments import diagnose, has_wheel, processor

PI = {
    "board": "Raspberry Pi 4", "cpu": "Cortex-A72", "cores": 4, "features": ["neon"],
    "machine": "aarch64", "python": "3.11.2", "python_bits": 64, "system": "Debian 12",
    "libc": "glibc 2.36", "platform": "linux", "governor": "ondemand", "temperature_c": 50.0,
    "throttled": [], "frequency_mhz": 600.0, "max_frequency_mhz": 1800.0,
    "versions": {"numpy": "2.1.0"},
}  # fmt: skip

INTEL_MAC = {"machine": "x86_64", "platform": "darwin", "libc": None}


def machine(**changes):
    return PI | changes


def found(*working, broken=()):
    names = ("litert", "tflite-runtime", "tensorflow", "onnxruntime")
    return [
        {
            "name": name, "package": name, "version": "1" if name in (*working, *broken) else None,
            "works": name in working, "reason": "it fails", "mend": "mend it",
            "import_ms": 90.0, "first_us": None,
        }
        for name in names
    ]  # fmt: skip


def said(complaint, *, package="tflite-runtime", version="2.14.0", code=1, **changes):
    reason, mend = diagnose(
        package, version, code=code, complaint=complaint, machine=machine(**changes)
    )
    return f"{reason}; {mend}"


@pytest.mark.parametrize(
    ("complaint", "expected"),
    [
        (
            "ImportError: /lib/aarch64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found "
            "(required by x.so)",
            "it needs glibc 2.38 and this system has glibc 2.36; update the operating system",
        ),
        ("version `GLIBCXX_3.4.32' not found", "it needs glibcxx 3.4.32; update"),
        (
            "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.0 as it may "
            "crash.\nAttributeError: _ARRAY_API not found",
            "it was built for NumPy 1, and this is 2.1.0; `pip install 'numpy<2'`",
        ),
        ("ImportError: wrong ELF class: ELFCLASS32", "another processor than aarch64"),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file",
            "the system library libGL.so.1 is missing",
        ),
        ("ValueError: odd", "it is installed and fails (ValueError: odd); `pip install --force"),
        ("", "no reason given"),
    ],
)
def test_why_an_import_fails(complaint, expected):
    assert expected in said(complaint)


def test_numpy_the_other_way_round():
    text = said("numpy.core.multiarray failed to import", versions={"numpy": "1.26.4"})
    assert "built for NumPy 2, and this is 1.26.4" in text


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGILL, "illegal instruction: this wheel needs a CPU feature that the Cortex-A72"),
        (signal.SIGSEGV, "importing it crashes (SIGSEGV)"),
        (signal.SIGKILL, "want of memory"),
        (62, "importing it crashes (signal 62)"),
    ],
)
def test_how_an_import_dies(number, expected):
    assert expected in said("", code=-number)


@pytest.mark.parametrize(
    ("package", "changes", "expected"),
    [
        ("ai-edge-litert", {}, "not installed; `pip install ai-edge-litert`"),
        ("ai-edge-litert", {"machine": "armv7l"}, "there is no wheel for armv7l"),
        ("ai-edge-litert", {"python_bits": 32}, "there is no wheel for armv7l"),
        ("tflite-runtime", {"python": "3.12.1"}, "no wheel for Python 3.12.1, only up to 3.11"),
        ("ai-edge-litert", {"libc": "musl 1.2.4"}, "no wheel for aarch64 with musl instead of gl"),
        ("onnxruntime", {"libc": "musl"}, "that the distribution has, or a system with glibc"),
        ("ai-edge-litert", INTEL_MAC, "there is no wheel for x86_64 on macOS; take another"),
        ("ai-edge-litert", INTEL_MAC | {"machine": "arm64"}, "`pip install ai-edge-litert`"),
        ("onnxruntime", INTEL_MAC, "`pip install onnxruntime`"),
        ("tflite-runtime", {"machine": "AMD64", "platform": "win32"}, "for AMD64 on Windows"),
    ],
)
def test_what_is_not_installed(package, changes, expected):
    text = said("ModuleNotFoundError: No module named x", package=package, version=None, **changes)
    assert expected in text


def test_a_32_bit_python_on_a_64_bit_kernel():
    mixed = machine(python_bits=32)
    assert processor(mixed) == "armv7l"
    assert has_wheel("tflite-runtime", mixed)
    assert not has_wheel("ai-edge-litert", mixed)
    text = " ".join(advise(mixed, found("tflite-runtime")))
    assert "install the runtime with `linux32 pip`" in text
    assert "Until then use tflite-runtime." in text


@pytest.mark.parametrize(
    ("interpreters", "changes", "expected"),
    [
        (found("litert"), {}, "Use LiteRT"),
        (found("litert"), {}, "no dot product"),
        (found("litert"), {"features": ["dot product", "neon"]}, "has dot product"),
        (found("litert"), INTEL_MAC | {"machine": "arm64"}, "isn't told by this system"),
        (found("litert"), {"machine": "x86_64", "features": ["avx512 vnni"]}, "has avx512 vnni"),
        (found("tflite-runtime"), {"machine": "x86_64"}, "int8 is slower than its float"),
        (found("tflite-runtime"), {"machine": "armv7l"}, "Use tflite-runtime."),
        (found("tflite-runtime"), {}, "`pip install ai-edge-litert`"),
        (found(broken=["litert"]), {}, "LiteRT would be the best choice: mend it."),
        (found(), {"machine": "armv7l"}, "`pip install tflite-runtime 'numpy<2'`"),
        (found(), {"machine": "riscv64"}, "No interpreter has a wheel for riscv64"),
        (
            found(),
            {"libc": "musl"},
            "has a wheel for aarch64 with musl instead of glibc and",
        ),
        (found(), INTEL_MAC, "TensorFlow runs .tflite files here: `pip install tensorflow`."),
        (found("onnxruntime"), INTEL_MAC, "Use onnxruntime."),
        (found("litert"), {"throttled": ["under-voltage"]}, "power supply is too weak"),
        (found("litert"), {"throttled": ["throttled earlier"]}, "cool it"),
        (found("litert"), {"temperature_c": 82.0}, "at 82 °C"),
        (found("litert"), {}, "governor, now ondemand"),
    ],
)
def test_advice(interpreters, changes, expected):
    assert any(expected in sentence for sentence in advise(machine(**changes), interpreters))


def test_musl_is_told_by_the_pythons_name(monkeypatch):
    monkeypatch.setattr(ailments.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(
        ailments.sysconfig, "get_config_var", {"SOABI": "cpython-311-x86_64-linux-musl"}.get
    )
    assert ailments.describe_machine()["libc"] == "musl"


def test_this_machine(edgecifar, monkeypatch):
    only = {name: doctor.BACKENDS[name] for name in ("litert", "tflite-runtime")}
    monkeypatch.setattr(doctor, "BACKENDS", only)
    result = edgecifar("doctor", "--json")
    told = json.loads(result.stdout)
    rows = {row["name"]: row for row in told["interpreters"]}
    works = any(row["works"] for row in rows.values())
    assert result.exit_code == (0 if works else 1)
    assert told["advice"]
    assert told["machine"]["python"].count(".") == 2
    for row in rows.values():
        assert row["works"] == (row["reason"] is None)
        assert row["works"] == (row["import_ms"] is not None)
    text = edgecifar("doctor").stdout
    assert all(sentence in text for sentence in told["advice"])


def test_libraries_for_cameras_are_tried_where_they_are(edgecifar, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "BACKENDS", {"litert": doctor.BACKENDS["litert"]})
    with monkeypatch.context() as without:
        without.setattr(doctor, "_is_there", lambda name: False)
        assert json.loads(edgecifar("doctor", "--json").stdout)["cameras"] == []
        assert "cameras" not in edgecifar("doctor").stdout
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    (tmp_path / "cv2.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("edgecifar.runtime.environment.versions", lambda: {"numpy": "2.1.0"})
    text = edgecifar("doctor").stdout
    assert "no   picamera2: it was built for NumPy 1, and this is 2.1.0; `pip install 'num" in text
    assert "yes  cv2: imports" in text


def test_modules_in_the_working_folder_do_no_harm(edgecifar, tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "BACKENDS", {"litert": doctor.BACKENDS["litert"]})
    (row,) = json.loads(edgecifar("doctor", "--json").stdout)["interpreters"]
    assert row["works"] or row["version"] is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ILL", "illegal instruction: this wheel needs a CPU feature"),
        ("SEGV", "the first inference crashes (SIGSEGV); `pip install -U ai-edge-litert`"),
    ],
)
def test_an_interpreter_that_dies_as_it_computes(edgecifar, tmp_path, monkeypatch, name, expected):
    """It imports, and the model that ships is whole: the fault is the wheel's."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *probe*) kill -{name} $$ ;; esac\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(doctor, "BACKENDS", {"litert": doctor.BACKENDS["litert"]})
    result = edgecifar("doctor")
    assert result.exit_code == 1
    assert expected in result.stdout
    assert "damaged" not in result.stdout


def test_a_crashing_interpreter_only_kills_the_child(edgecifar, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -ILL $$\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    result = edgecifar("doctor")
    assert result.exit_code == 1
    assert "illegal instruction" in result.stdout


def test_a_broken_numpy_is_explained(tmp_path):
    """Debian's needs system libraries; all that doctor tells must come without it."""
    (tmp_path / "numpy.py").write_text(
        "raise ImportError('libopenblas.so.0' + ': cannot open shared object file')"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from edgecifar.runtime import doctor\n"
        "doctor.BACKENDS = {}\n"
        "from edgecifar.runtime.commands import main\n"
        "main(['doctor'])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1, done.stderr
    assert "no   NumPy" in done.stdout
    assert "NumPy comes first: install it with the system's packages." in done.stdout
    assert "the system library libopenblas.so.0 is missing" in done.stdout
    assert "yes  Pillow" in done.stdout


def test_without_numpy_help_leads_to_the_doctor(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('libopenblas.so.0 is missing')")
    (tmp_path / "photo.png").touch()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def told(*arguments):
        code = f"from edgecifar.runtime.commands import main; main({list(arguments)!r})"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    for arguments in (("--help",), ("bench", "--help")):
        done = told(*arguments)
        assert done.returncode == 0, done.stderr
    assert "doctor" in told("--help").stdout
    for arguments in (("classify", str(tmp_path / "photo.png")), ("bench", "nano")):
        done = told(*arguments)
        assert done.returncode == 1
        assert "libopenblas.so.0 is missing): `edgecifar doctor` says why" in done.stderr
        assert "Traceback" not in done.stderr


def test_what_every_interpreter_needs_comes_first():
    numpy = {"name": "NumPy", "works": False, "mend": "mend it"}
    first, *others = advise(machine(), found("litert"), [numpy])
    assert first == "NumPy comes first: mend it."
    assert not any("LiteRT" in sentence for sentence in others)
    assert said("", package="pillow", version=None) == "not installed; `pip install pillow`"


@pytest.fixture
def built_for_numpy_1(tmp_path, monkeypatch):
    """A tflite-runtime that finds no NumPy that it knows, as 2.14 does only for its first model."""
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "import sys\n"
        "class Interpreter:\n"
        "    def __init__(self, **_):\n"
        "        print('A module that was compiled using NumPy 1.x cannot be', file=sys.stderr)\n"
        "        cause = ImportError('numpy.core.multiarray failed to import')\n"
        "        raise SystemError('returned a result with an exception set') from cause\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    told = r"tflite-runtime doesn't work here \(it was built for NumPy"
    yield rf"{told} \d, and this is {re.escape(np.__version__)}"
    for name in ("tflite_runtime.interpreter", "tflite_runtime"):
        sys.modules.pop(name, None)


def test_a_numpy_that_fails_with_the_first_model(edgecifar, built_for_numpy_1, monkeypatch):
    only = {name: doctor.BACKENDS[name] for name in ("litert", "tflite-runtime")}
    monkeypatch.setattr(doctor, "BACKENDS", only)
    text = edgecifar("doctor").stdout
    assert re.search(rf"no   tflite-runtime.*: {built_for_numpy_1}\); `pip install 'numpy", text)


def test_a_numpy_that_fails_as_one_classifies(fails, built_for_numpy_1, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    foreign = shutil.copy(shipped.default_model(), tmp_path / "mine.tflite")
    for model in ("nano", foreign):  # a foreign one fails in the child that tries it
        asked = ("--backend", "tflite-runtime", "--model", model)
        told = fails("classify", tmp_path / "photo.png", *asked)
        assert re.search(rf"\.tflite: {built_for_numpy_1}\): `pip install 'numpy.*'`\n$", told)
