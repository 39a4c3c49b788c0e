"""Fixtures that several packages' tests share: small real images, nets trained on them, boards."""

import contextlib
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[1] / "runtime"


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Keep decoded images of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECIFAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_races():
    """Time files for a moment: that they are timed is tested, and hardly ever how long they take.

    What is takes `long_races`.
    """
    from edgecifar.compress import latency
    from edgecifar.runtime.timing import TimingPlan

    plan = TimingPlan(rounds=3, slice_ms=2, warm_up_ms=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "TimingPlan", lambda: plan)
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_calibrate():
    """Take int8's ranges from a fifth of the images that a user's are taken from."""
    from edgecifar.compress import calibration, int8, quantize, sensitivity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration.calibration_images, "__defaults__", (100,))
        patch.setattr(int8, "CALIBRATION_IMAGES", 100)
        patch.setattr(sensitivity, "CALIBRATION_IMAGES", 100)
        patch.setattr(quantize, "_CALIBRATION_IMAGES", 256)
        yield


@pytest.fixture
def long_races(monkeypatch):
    """Time files as long as a user's are timed."""
    from edgecifar.compress import latency
    from edgecifar.runtime.timing import TimingPlan

    monkeypatch.setattr(latency, "TimingPlan", TimingPlan)


@pytest.fixture(scope="session")
def digits(_cache):
    """Scikit-learn's digits as 32x32 RGB: real images that need no download."""
    from edgecifar.train.data import load

    return load("digits")


@pytest.fixture(scope="session")
def small_digits(_cache):
    """The digits as 8x8 RGB, for what computes slowly."""
    from edgecifar.train.data import load

    return load("digits", image_size=8)


@pytest.fixture(scope="session")
def quick_training():
    """Settings under which resnet8 learns the digits in seconds."""
    from edgecifar.train.settings import Augmentation, Training

    return Training(
        epochs=6,
        batch_size=32,  # many steps, so that batch-norm statistics settle
        learning_rate=0.1,
        ema=0.9,
        augment=Augmentation(flip="none", crop=2),
    )


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all workers of a session have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def once(shared):
    """Return once(NAME, make): one worker calls make(FOLDER), and each gets what that returned.

    What lies in the folder is every worker's: read it, don't change it.
    """
    from edgecifar.runtime.files import wait_for_lock

    def once(name, make):
        returned = shared / f"{name}.pickle"
        with (shared / f"{name}.lock").open("w") as lock:
            assert wait_for_lock(lock, 1200, lambda: None)
            if not returned.exists():
                (shared / name).mkdir(exist_ok=True)
                returned.write_bytes(pickle.dumps(make(shared / name)))
        return pickle.loads(returned.read_bytes())

    return once


@pytest.fixture(scope="session")
def made_once(once, tmp_path_factory):
    """Return made_once(NAME, make): one worker makes the run, and each gets a copy of its own."""
    from edgecifar.train.run import Run

    own = tmp_path_factory.mktemp("runs")

    def made_once(name, make):
        run = once(name, lambda folder: make(folder / name))
        return Run(shutil.copytree(run.path, own / name))

    return made_once


@pytest.fixture(scope="session")
def digits_run(digits, quick_training, made_once):
    """A finished run of resnet8 on the digits; read it, don't change it."""
    from edgecifar.train.session import train

    return made_once("resnet8", lambda out: train("resnet8", digits, quick_training, out))


@pytest.fixture(scope="session")
def digits_qat_run(digits, digits_run, made_once):
    """The same net fine-tuned with quantization in the loop."""
    from edgecifar.compress.quantize import Quantization, quantize

    recipe = Quantization(epochs=1)
    return made_once("resnet8-qat", lambda out: quantize(digits_run, digits, recipe, out))


@contextlib.contextmanager
def online():
    """Skip the test where nothing answers; where it must run, that is a failure."""
    from edgecifar.benchmarks.devices.transport import UnreachableError

    try:
        yield
    except UnreachableError as error:
        if os.environ.get("CI") or os.environ.get("EDGECIFAR_REQUIRE_ARM"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def wheel(once):
    """The runtime's wheel as a Pi installs it, models and console script included."""
    from edgecifar.benchmarks.devices import rootfs

    def build(folder):
        without = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        copy = folder / "runtime"  # setuptools leaves a build folder behind
        shutil.copytree(RUNTIME, copy, ignore=without, dirs_exist_ok=True)
        options = ("--quiet", "--no-deps", "--wheel-dir", str(folder))
        rootfs._call([sys.executable, "-m", "pip", "wheel", *options, str(copy)])
        return next(folder.glob("*.whl"))

    with online():
        return once("wheel", build)


@pytest.fixture(scope="session")
def rootfs_cache(shared):
    """Where the files of emulated boards are kept: in EDGECIFAR_TEST_ROOTFS, if that is set."""
    return os.environ.get("EDGECIFAR_TEST_ROOTFS", str(shared / "rootfs"))


@pytest.fixture(scope="session")
def python_of(rootfs_cache):
    """Return a board's Python, or skip the test where a tool or the network is missing."""
    from edgecifar.benchmarks.devices.emulated import BOARDS, EmulatedDevice

    def prepare(board):
        qemu = BOARDS[board].architecture.qemu
        missing = [tool for tool in ("debootstrap", "dpkg", qemu) if not shutil.which(tool)]
        if missing:
            pytest.skip(f"{missing[0]} is missing: apt-get install debootstrap qemu-user-static")
        with pytest.MonkeyPatch.context() as patch, online():
            patch.setenv("EDGECIFAR_CACHE", rootfs_cache)
            return EmulatedDevice.from_spec(f"emulated:{board}").python()

    return prepare
