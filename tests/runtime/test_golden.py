import base64
import hashlib

import numpy as np
import pytest

from edgecifar.runtime import Classifier, golden, modelfile
from edgecifar.runtime.errors import EdgecifarError

FILES = ("float32.tflite", "int8.tflite", "float32.onnx")


@pytest.fixture(params=FILES)
def path(request, described):
    """A described file with golden outputs."""
    path = described / request.param
    model = Classifier(path)
    proof = golden.record(model, tolerance=0.0, elsewhere=0.05)
    modelfile.append(path, {**model.model.metadata, "golden": proof}, model.classes)
    return path


def change(path, **changes):
    metadata = modelfile.read(path).metadata
    metadata["golden"] |= changes
    modelfile.append(path, metadata, None)


def test_the_generator_is_fixed():
    """Its images are in files that are out there: new ones need a new name."""
    pixels = b"".join(golden.draw(number, 32, 48).tobytes() for number in range(3))
    assert hashlib.sha256(pixels).hexdigest()[:16] == "53e048c7d982beca"
    assert golden.GENERATOR == "shake128-blocks-1"


def test_its_images_are_diverse():
    drawn = np.stack([golden.draw(number, 32, 32) for number in range(16)])
    assert drawn.dtype == np.uint8
    assert (drawn.min(), drawn.max()) == (0, 255)
    assert drawn.std() > 40
    assert np.abs(drawn[:8].astype(int) - drawn[8:]).mean() > 30


def test_the_same_machine_gives_the_same(path):
    found = golden.compare(Classifier(path))
    assert found.identical
    assert found.holds
    assert (found.n, found.same_labels, found.largest_difference) == (8, 8, 0)


def test_the_least_sure_are_taken(path):
    model = Classifier(path)
    drawn = np.stack([golden.draw(number, 16, 16) for number in range(64)])
    sureness = model.predict(drawn).probabilities.max(axis=1)
    numbers = model.model.metadata["golden"]["images"]
    others = np.setdiff1d(np.arange(64), numbers)
    assert sureness[numbers].max() <= sureness[others].min()


def test_another_output_is_noticed_and_may_be_allowed(path):
    model = Classifier(path)
    dtype = model.output.dtype
    text = model.model.metadata["golden"]["outputs"]
    outputs = np.frombuffer(base64.b64decode(text), dtype).copy()
    step = 3 if dtype == np.int8 else 3 / 256
    outputs[0] += dtype.type(step if outputs[0] < 0.5 else -step)
    change(path, outputs=base64.b64encode(outputs.tobytes()).decode())
    found = golden.compare(Classifier(path))
    assert not found.identical
    assert not found.holds
    assert found.largest_difference == pytest.approx(3 / 256, rel=1e-3)
    change(path, tolerance=0.02)
    assert golden.compare(Classifier(path)).holds
    change(path, tolerance=0.0, backend="other 1.0")
    assert golden.compare(Classifier(path)).holds  # 0.05 elsewhere


def test_not_a_number_is_no_small_difference(path, monkeypatch):
    model = Classifier(path)
    monkeypatch.setattr(model, "_decode", lambda scores: np.full(scores.shape, np.nan))
    change(path, tolerance=1.0)
    found = golden.compare(model)
    assert found.largest_difference == np.inf


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": "photos"}, {"dtype": "int64"}, {"images": ["x"]}, {"outputs": "!"},
        {"outputs": "AAAA"}, {"backend": ""}, {"tolerance": "none"}, {"images": None},
        {"images": [1] * 100_000},
    ],
)  # fmt: skip
def test_an_unknown_kind(path, changes):
    change(path, **changes)
    with pytest.raises(EdgecifarError, match="update edgecifar-runtime"):
        golden.compare(Classifier(path))


def test_an_image_number_that_is_none(path):
    """JSON has no infinity, but 1e999 is read as one."""
    model = Classifier(path)
    model.model.metadata["golden"]["images"][0] = float("inf")
    with pytest.raises(EdgecifarError, match="update edgecifar-runtime"):
        golden.compare(model)


def test_a_file_without(described):
    assert golden.compare(Classifier(described / "int8.tflite")) is None
