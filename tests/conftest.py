"""Fixtures that several packages' tests share: small real images, and a net trained on them."""

import os
import shutil

import pytest


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
def made_once(tmp_path_factory):
    """Return made_once(NAME, make): one worker makes the run, and each gets a copy of its own."""
    from edgecifar.runtime.files import wait_for_lock
    from edgecifar.train.run import Run, is_finished

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    shared.mkdir(exist_ok=True)
    own = tmp_path_factory.mktemp("runs")

    def made_once(name, make):
        with (shared / f"{name}.lock").open("w") as lock:
            assert wait_for_lock(lock, 1200, lambda: None)
            if not is_finished(shared / name):
                make(shared / name)
        return Run(shutil.copytree(shared / name, own / name))

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
