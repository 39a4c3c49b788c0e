"""Emulated Raspberry Pis: Debian's Python for Arm under qemu, with the real wheels for it.

The roots are built once a session, in about a minute, or kept in EDGECIFAR_TEST_ROOTFS. Where
qemu isn't installed these tests are skipped, and say what to install. They are skipped too where
no mirror answers, unless CI or EDGECIFAR_REQUIRE_ARM is set; a download that fails otherwise is a
failure.
"""

import contextlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecifar.benchmarks.devices import rootfs
from edgecifar.benchmarks.devices.emulated import BOARDS, EmulatedDevice
from edgecifar.benchmarks.devices.transport import UnreachableError
from edgecifar.runtime.shipped import locate, names

IMAGES = 500
FEWER = 40  # an emulator takes minutes for all, which `make quiet` shows them
RUNTIME = Path(__file__).parents[2] / "runtime"


@pytest.fixture(scope="session")
def rootfs_cache(tmp_path_factory):
    """Where the boards' files are; tests elsewhere that need some find them here too."""
    with pytest.MonkeyPatch.context() as patch:
        if "EDGECIFAR_TEST_ROOTFS" not in os.environ:
            patch.setenv("EDGECIFAR_TEST_ROOTFS", str(tmp_path_factory.mktemp("rootfs")))
        yield os.environ["EDGECIFAR_TEST_ROOTFS"]


@pytest.fixture(scope="session")
def python_of(rootfs_cache):
    """Return a board's Python, or skip the test where a tool or the network is missing."""

    def prepare(board):
        qemu = BOARDS[board].architecture.qemu
        missing = [tool for tool in ("debootstrap", "dpkg", qemu) if not shutil.which(tool)]
        if missing:
            pytest.skip(f"{missing[0]} is missing: apt-get install debootstrap qemu-user-static")
        with pytest.MonkeyPatch.context() as patch, online():
            patch.setenv("EDGECIFAR_CACHE", rootfs_cache)
            return EmulatedDevice.from_spec(f"emulated:{board}").python()

    return prepare


@contextlib.contextmanager
def online():
    """Skip the test where nothing answers; where it must run, that is a failure."""
    try:
        yield
    except UnreachableError as error:
        if os.environ.get("CI") or os.environ.get("EDGECIFAR_REQUIRE_ARM"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The runtime's wheel as a Pi installs it, models and console script included."""
    folder = tmp_path_factory.mktemp("wheel")
    without = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    copy = shutil.copytree(RUNTIME, folder / "runtime", ignore=without)  # it leaves a build folder
    with online():
        options = ("--quiet", "--no-deps", "--wheel-dir", str(folder))
        rootfs._call([sys.executable, "-m", "pip", "wheel", *options, str(copy)])
    return next(folder.glob("*.whl"))


def _cases():
    """Yield each int8 file that ships with the runtime, and how many images it is shown."""
    for path in map(locate, names()):
        yield pytest.param((path, FEWER), id=path.stem)
        yield pytest.param((path, IMAGES), id=f"{path.stem}-all", marks=pytest.mark.long)


@pytest.fixture(scope="session", params=_cases())
def case(request):
    return request.param


@pytest.fixture(scope="session")
def model(case):
    """Each int8 file that ships with the runtime, one after the other."""
    return case[0]


@pytest.fixture(scope="session")
def images(case, test_images):
    """The test images that `model` is shown."""
    return test_images[: case[1]]


@pytest.fixture(scope="session")
def test_images(digits):
    """500 test images: CIFAR-10's where EDGECIFAR_DATA has them, else digits."""
    if os.environ.get("EDGECIFAR_DATA"):
        from edgecifar.train.data import load

        images = np.array(load().test.images[:IMAGES])
        assert len(images) == IMAGES, "EDGECIFAR_DATA has fewer test images"
        return images
    return np.array(digits.test.images[:IMAGES])


@pytest.fixture(scope="session")
def photo(test_images, tmp_path_factory):
    """One of them as a file."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(test_images[7]).save(path)
    return path
