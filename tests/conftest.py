"""Fixtures that several packages' tests share: small real images, and a net trained on them."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Keep decoded images of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECIFAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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
def digits_run(digits, quick_training, tmp_path_factory):
    """A finished run of resnet8 on the digits; read it, don't change it."""
    from edgecifar.train.session import train

    return train("resnet8", digits, quick_training, tmp_path_factory.mktemp("runs") / "resnet8")


@pytest.fixture(scope="session")
def digits_qat_run(digits, digits_run):
    """The same net fine-tuned with quantization in the loop."""
    from edgecifar.compress.quantize import Quantization, quantize

    out = digits_run.path.with_name("resnet8-qat")
    return quantize(digits_run, digits, Quantization(epochs=1), out)
