"""What pip makes of the runtime's wheel on each kind of Raspberry Pi."""

import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import Classifier
from edgecifar.runtime.shipped import default_model

_MARKERS = """
import json, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.tags import sys_tags
found = [Requirement(line) for line in sys.stdin.read().splitlines()]
told = {"extra": sys.argv[1], **({"python_version": sys.argv[2]} if sys.argv[2:] else {})}
chosen = [str(r).partition(";")[0] for r in found if not r.marker or r.marker.evaluate(told)]
print(json.dumps({"chosen": chosen, "platforms": sorted({tag.platform for tag in sys_tags()})}))
"""


@pytest.fixture(scope="module")
def required(wheel):
    """What the wheel requires; an editable installation may be older than setup.cfg."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = archive.read(path).decode().splitlines()
    prefix = "Requires-Dist: "
    return "\n".join(line.removeprefix(prefix) for line in lines if line.startswith(prefix))


@pytest.fixture(scope="module")
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
    assert platform in told["platforms"]
    assert_chosen(told["chosen"], interpreter)


@pytest.mark.parametrize(
    ("board", "extra", "interpreter"),
    [("pi4", "small", {"ai-edge-litert"}), ("pi3-32", "", set()), ("pi3-32", "small", set())],
)
def test_what_has_no_wheel_is_not_required(pip_of, required, board, extra, interpreter):
    """The last wheels of tflite-runtime are for Python 3.11: with 3.12 pip would find none."""
    told = json.loads(pip_of(board, _MARKERS, extra, "3.12", input=required))
    assert_chosen(told["chosen"], interpreter)


def assert_chosen(chosen, interpreter):
    assert names(chosen) - {"numpy", "click", "pillow", "Pillow"} == interpreter
    old = [text for text in chosen if text.startswith("numpy") and "<2" in text]
    assert bool(old) == ("tflite-runtime" in interpreter)


@pytest.fixture(scope="module")
def site(pip_of, wheel, tmp_path_factory):
    """Where a board's own pip has installed the wheel; what that requires is there already."""
    folder = tmp_path_factory.mktemp("site")
    pip = "from pip._internal.cli.main import main; sys.exit(main(sys.argv[1:]))"
    quick = ("--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    pip_of("pi4", pip, "install", *quick, "--target", folder, wheel)
    return folder


def test_the_installed_program_classifies(site, python_of, tmp_path):
    """By its console script, which the board's Python reads: an emulated one can't start it."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "noise.png")
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(site)!r})\n"
        "sys.argv[0] = 'edgecifar'\n"
        "import edgecifar.runtime as r; print(r.__file__, flush=True)\n"
        f"runpy.run_path({str(site / 'bin/edgecifar')!r}, run_name='__main__')"
    )
    arguments = ("classify", tmp_path / "noise.png", "--json")
    done = subprocess.run(
        [python_of("pi4"), "-c", code, *arguments],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where, answer = done.stdout.splitlines()
    assert where == str(site / "edgecifar/runtime/__init__.py")
    expected = Classifier(default_model()).predict(image)
    assert json.loads(answer)["label"] == expected.labels[0]
