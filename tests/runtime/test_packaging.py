import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"


def sources():
    """Names in the wheel of all that belongs to the package."""
    found = [*RUNTIME.rglob("*.py"), *RUNTIME.glob("models/*.tflite")]
    kept = (path.relative_to(RUNTIME).as_posix() for path in found)
    return {f"edgecifar/runtime/{name}" for name in kept if not name.startswith("build/")}


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == sources()


@pytest.mark.parametrize(
    ("system", "processor", "python", "interpreter"),
    [
        ("linux", "aarch64", "3.13", "ai-edge-litert"),
        ("linux", "armv7l", "3.11", "tflite-runtime"),
        ("linux", "armv7l", "3.13", None),
        ("darwin", "arm64", "3.11", "ai-edge-litert"),
        ("darwin", "x86_64", "3.11", None),
        ("win32", "AMD64", "3.11", "ai-edge-litert"),
    ],
)
def test_only_what_has_a_wheel_is_required(wheel, system, processor, python, interpreter):
    requirements = pytest.importorskip("packaging.requirements")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = archive.read(path).decode().splitlines()
    told = {"sys_platform": system, "platform_machine": processor, "python_version": python}
    prefix, chosen = "Requires-Dist: ", set()
    for line in (line.removeprefix(prefix) for line in lines if line.startswith(prefix)):
        requirement = requirements.Requirement(line)
        if not requirement.marker or requirement.marker.evaluate({**told, "extra": ""}):
            chosen.add(requirement.name.lower())
    assert chosen - {"numpy", "click", "pillow"} == ({interpreter} if interpreter else set())


def test_wheel_runs_alone(wheel, tmp_path):
    """Without the editable installation that would hide a missing subpackage."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    modules = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sources()
        if name.endswith(".py")
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    code += "".join(
        f"import {name}; assert {name}.__file__.startswith({str(tmp_path)!r})\n" for name in modules
    )
    code += "assert 'tensorflow' not in sys.modules and 'onnxruntime' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_brings_in_no_framework():
    code = (
        "import edgecifar.runtime, sys\n"
        "assert 'numpy' not in sys.modules\n"
        "edgecifar.runtime.Classifier\n"
        "loaded = {'tensorflow', 'onnxruntime', 'ai_edge_litert', 'PIL', 'matplotlib'}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    import edgecifar.runtime as runtime

    assert sorted(runtime.__all__) == [
        *("Classifier", "EdgecifarError", "Predictions", "__version__", "read_image")
    ]
    assert all(getattr(runtime, name) for name in runtime.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = runtime.nothing


def test_installed_version_is_the_modules():
    from importlib.metadata import version

    import edgecifar.runtime as runtime

    assert version("edgecifar-runtime") == runtime.__version__
