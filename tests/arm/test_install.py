"""What pip makes of the runtime's wheel on each kind of Raspberry Pi."""

import json
import subprocess
from pathlib import Path

import pytest

from edgecifar.benchmarks.devices.parcel import runtime_wheel

_MARKERS = """
import json, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.tags import sys_tags
found = [Requirement(line) for line in sys.stdin.read().splitlines()]
chosen = [str(r).partition(";")[0] for r in found if r.marker is None or r.marker.evaluate(
    {"extra": sys.argv[1]})]
print(json.dumps({"chosen": chosen, "platforms": sorted({tag.platform for tag in sys_tags()})}))
"""


@pytest.fixture(scope="module")
def required():
    from importlib.metadata import requires

    return "\n".join(requires("edgecifar-runtime"))


@pytest.fixture
def pip_of(python_of):
    """Run code on a board with this machine's pip, which is plain Python."""
    import pip

    site = Path(pip.__file__).parents[1]

    def run(board, *arguments, input=None):
        code = f"import sys; sys.path.append({str(site)!r})\n"
        command = [python_of(board), "-c", code + arguments[0], *arguments[1:]]
        done = subprocess.run(
            command, capture_output=True, text=True, input=input, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def names(chosen):
    return {text.split()[0].split("<")[0].split(">")[0].split("[")[0] for text in chosen}


@pytest.mark.parametrize(
    ("board", "extra", "interpreter", "platform"),
    [
        ("pi4", "", {"ai-edge-litert"}, "manylinux_2_36_aarch64"),
        ("pi4", "small", {"ai-edge-litert", "tflite-runtime"}, "manylinux_2_36_aarch64"),
        ("pi3-32", "", {"tflite-runtime"}, "manylinux_2_36_armv7l"),
    ],
)
def test_which_interpreter_is_chosen(pip_of, required, board, extra, interpreter, platform):
    told = json.loads(pip_of(board, _MARKERS, extra, input=required))
    chosen = names(told["chosen"])
    assert platform in told["platforms"]
    assert chosen - {"numpy", "click", "pillow", "Pillow"} == interpreter
    old = [text for text in told["chosen"] if text.startswith("numpy") and "<2" in text]
    assert bool(old) == ("tflite-runtime" in interpreter)


def test_pip_installs_the_wheel(pip_of, python_of, tmp_path):
    """The board's own Python runs pip; what the wheel requires is there already."""
    wheel = runtime_wheel(tmp_path)
    pip = "from pip._internal.cli.main import main; sys.exit(main(sys.argv[1:]))"
    quick = ("--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    pip_of("pi4", pip, "install", *quick, "--target", tmp_path / "site", wheel)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import edgecifar.runtime as r; print(r.Classifier.__module__, r.__file__)"
    )
    done = subprocess.run(
        [python_of("pi4"), "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "edgecifar.runtime.classifier", str(tmp_path / "site/edgecifar/runtime/__init__.py")
    ]  # fmt: skip
