"""Emulated Raspberry Pis: Debian's Python for Arm under qemu, with the real wheels for it.

The roots are built once a session, in about a minute, or kept in EDGECIFAR_TEST_ROOTFS. Where
qemu isn't installed these tests are skipped, and say what to install. They are skipped too where
no mirror answers, unless CI or EDGECIFAR_REQUIRE_ARM is set; a download that fails otherwise is a
failure.
"""

import os

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime.shipped import locate, names

IMAGES = 500
FEWER = 40  # an emulator takes minutes for all, which `make quiet` shows them


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
