"""Each architecture trains a few steps and becomes an int8 file."""

import dataclasses

import pytest

from edgecifar.compress.formats import FORMATS
from edgecifar.runtime.classifier import Classifier
from edgecifar.train import models
from edgecifar.train.data import Split
from edgecifar.train.session import train
from edgecifar.train.settings import Augmentation, Training

FEW_STEPS = Training(
    epochs=1,
    batch_size=16,
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    augment=Augmentation(flip="none", crop=2),
)
DEEP = {"resnet50", "efficientnetv2b0"}  # so that TensorFlow takes minutes to compile a step
MARKS = dict.fromkeys(DEEP, pytest.mark.long) | {"efficientnet_lite0": pytest.mark.slow}


@pytest.fixture(scope="module")
def few(digits):
    """A few images of each split; their own fingerprint, since they are other data."""

    def first(split, count):
        return Split(split.images[:count], split.labels[:count])

    return dataclasses.replace(
        digits,
        train=first(digits.train, 64),
        validation=first(digits.validation, 20),
        test=first(digits.test, 20),
        fingerprint="0" * 64,
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=MARKS.get(name, ())) for name in models.names()],
)
def test_it_trains_and_exports_to_int8(few, tmp_path, name):
    from edgecifar.compress.export import export

    run = train(name, few, FEW_STEPS, tmp_path / name)
    assert run.info["parameters"] == run.load_model().count_params()
    (file,) = export(run, few, ["int8"])  # which refuses an operation left in float
    assert file.payload_bytes < 1.6 * run.info["parameters"] + 100_000
    assert Classifier(file.path).predict(few.test.images).indices.shape == (20,)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DEEP))
def test_a_deep_one_computes_on_integers(few, name):
    model, form = models.find(name).build((32, 32), 10), FORMATS["int8"]
    payload = form.convert(model, few.train.images[:4])
    assert "all on integers" in form.inspect(payload, model, form.file_name(name))
