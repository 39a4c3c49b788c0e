"""Emulated Raspberry Pis: Debian's Python for Arm under qemu, with the real wheels for it.

The roots are built once a session, in about a minute, or kept in EDGECIFAR_TEST_ROOTFS. Where
qemu isn't installed these tests are skipped, and say what to install.
"""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from edgecifar.benchmarks.devices import rootfs
from edgecifar.benchmarks.devices.emulated import BOARDS, EmulatedDevice
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.shipped import locate, names

IMAGES = 500


@pytest.fixture(scope="session")
def rootfs_cache(tmp_path_factory):
    """Where the boards' files are; tests elsewhere that need some find them here too."""
    with pytest.MonkeyPatch.context() as patch:
        if "EDGECIFAR_TEST_ROOTFS" not in os.environ:
            patch.setenv("EDGECIFAR_TEST_ROOTFS", str(tmp_path_factory.mktemp("rootfs")))
        yield os.environ["EDGECIFAR_TEST_ROOTFS"]


@pytest.fixture(scope="session")
def python_of(rootfs_cache):
    """Return a board's Python, or skip the test with the reason why there is none."""

    def prepare(board):
        qemu = BOARDS[board].architecture.qemu
        missing = [tool for tool in ("debootstrap", "dpkg", qemu) if not shutil.which(tool)]
        if missing:
            pytest.skip(f"{missing[0]} is missing: apt-get install debootstrap qemu-user-static")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGECIFAR_CACHE", rootfs_cache)
            try:
                return EmulatedDevice.from_spec(f"emulated:{board}").python()
            except EdgecifarError as error:
                if "failed while" not in str(error):
                    raise
                pytest.skip(f"no files for {rootfs.__name__}: {error}")

    return prepare


@pytest.fixture(scope="session", params=names())
def model(request):
    """Each int8 file that ships with the runtime, one after the other."""
    return locate(request.param)


@pytest.fixture(scope="session")
def test_images(digits):
    """500 test images: CIFAR-10's where EDGECIFAR_DATA has them, else digits."""
    if os.environ.get("EDGECIFAR_DATA"):
        from edgecifar.train.data import load

        return np.array(load().test.images[:IMAGES])
    return np.array(digits.test.images[:IMAGES])


@pytest.fixture(scope="session")
def photo(test_images, tmp_path_factory):
    """One of them as a file."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(test_images[7]).save(path)
    return path
