import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime import Classifier, classifier, shipped
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import resize

FILES = ("float32.tflite", "int8.tflite", "float32.onnx")
CLASSES = ("ant", "bee", "cow", "dog")


@pytest.fixture(params=FILES)
def model(request, described):
    return Classifier(described / request.param)


def test_one_image(model, images):
    found = model.predict(images[0])
    assert found.probabilities.shape == (1, 4)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum() == pytest.approx(1, abs=0.02)
    assert found.indices.tolist() == [found.probabilities[0].argmax()]
    assert found.labels == (CLASSES[found.indices[0]],)
    assert len(found) == 1


def test_batch_gives_what_single_images_give(model, images):
    single = np.concatenate([model.predict(image).probabilities for image in images])
    batch = model.predict(images)
    assert np.array_equal(batch.probabilities, single)
    assert len(set(batch.labels)) > 1  # or the comparison would say little


def test_a_small_batch_opens_no_more_interpreters_than_it_uses(described, images, monkeypatch):
    opened = []

    def open_counted(*how, **more):
        opened.append(how)
        return open_model(*how, **more)

    open_model = classifier.open_model
    monkeypatch.setattr(classifier, "open_model", open_counted)
    model = Classifier(described / "int8.tflite", threads=8)
    before = len(opened)
    model.predict(images[:16])
    model.predict(images[:16])
    assert len(opened) - before <= 2
    model.predict(np.resize(images, (32, *images.shape[1:])))
    assert len(opened) - before <= 4


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_number_of_threads_changes_nothing(described, images, threads):
    expected = Classifier(described / "int8.tflite").predict(images)
    found = Classifier(described / "int8.tflite", threads=threads).predict(images)
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_formats_agree(described, images):
    results = {name: Classifier(described / name).predict(images) for name in FILES}
    exact = results["float32.tflite"].probabilities
    assert np.allclose(exact, results["float32.onnx"].probabilities, atol=1e-5)
    # 8 bits of weights, activations and scores; this net's logits multiply their errors.
    assert np.abs(exact - results["int8.tflite"].probabilities).max() < 0.15


def test_any_memory_layout(model, images):
    turned = images[0].transpose(1, 0, 2)[::-1]
    plain = np.ascontiguousarray(turned)
    found, expected = model.predict(turned), model.predict(plain)
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_another_size_is_resized(model, images):
    large = np.repeat(np.repeat(images[0], 3, axis=0), 2, axis=1)
    expected = model.predict(resize(large, 16, 16))
    assert np.array_equal(model.predict(large).probabilities, expected.probabilities)
    assert len(model.predict(np.stack([large, large]))) == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((16, 16, 3), np.float32), "uint8"),
        (np.zeros((16, 16), np.uint8), "shape"),
        (np.zeros((16, 16, 4), np.uint8), "shape"),
        (np.zeros((0, 16, 16, 3), np.uint8), "shape"),
        (np.zeros((1, 1, 16, 16, 3), np.uint8), "shape"),
    ],
)
def test_what_is_no_image_is_refused(described, array, message):
    with pytest.raises(EdgecifarError, match=message):
        Classifier(described / "int8.tflite").predict(array)


def test_top(model, images):
    best = model.predict(images[:3]).top(2)
    assert [len(row) for row in best] == [2, 2, 2]
    assert all(row[0][1] >= row[1][1] for row in best)
    assert [row[0][0] for row in best] == list(model.predict(images[:3]).labels)
    assert len(model.predict(images[0]).top(9)[0]) == 4


@pytest.mark.parametrize("pixels", [[[[1, 2, 3]]], None, "photo.png"])
def test_what_is_no_array_is_refused(described, pixels):
    with pytest.raises(EdgecifarError, match="give a NumPy array of uint8 pixels"):
        Classifier(described / "int8.tflite").predict(pixels)


def test_an_interpreter_that_fails_is_told_on_one_line(model, images, monkeypatch):
    def fail(tensor):
        raise RuntimeError("Input tensor 3 lacks data\nNode number 2 failed")

    monkeypatch.setattr(model._lane, "_run", fail)
    for call in (lambda: model.predict(images[0]), lambda: model.predict(images[:2])):
        with pytest.raises(EdgecifarError, match=r"can't run it \(Input tensor 3 lacks data\): c"):
            call()


def test_calls_from_several_threads(described, images):
    model = Classifier(described / "int8.tflite")
    expected = model.predict(images).indices
    found = np.full(len(images), -1)

    def work(rows):
        for row in rows:
            found[row] = model.predict(images[row]).indices[0]

    workers = [threading.Thread(target=work, args=(range(k, 64, 4),)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert np.array_equal(found, expected)


def test_labels_from_elsewhere(bare, described, images, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("w\nx\ny\nz\n")
    assert Classifier(described / "int8.tflite", labels=names).classes == ("w", "x", "y", "z")
    assert Classifier(described / "int8.tflite", labels=["a", "b", "c", "d"]).classes[3] == "d"
    assert Classifier(bare / "float32.tflite").predict(images[0]).labels[0].startswith("class ")


def test_labels_that_do_not_fit(described, tmp_path):
    with pytest.raises(EdgecifarError, match="4 classes and labels names 2"):
        Classifier(described / "int8.tflite", labels=["a", "b"])
    with pytest.raises(EdgecifarError, match=r"none\.txt: No such file"):
        Classifier(described / "int8.tflite", labels=tmp_path / "none.txt")


def test_a_bare_int8_file_that_hides_its_normalisation_is_refused(bare):
    with pytest.raises(EdgecifarError, match="export it with edgecifar"):
        Classifier(bare / "int8.tflite")


def test_the_default_model(monkeypatch, described, tmp_path):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    with pytest.raises(EdgecifarError, match="no model ships"):
        Classifier()
    for name in ("resnet8", "nano", "small"):  # each is preferred to the ones before
        shutil.copy(described / "int8.tflite", tmp_path / f"{name}.tflite")
        assert Classifier().model.path.stem == name
    assert Classifier().classes == CLASSES


@pytest.mark.quiet
def test_overhead_over_the_bare_loop(described, images):
    from edgecifar.runtime.timing import TimingPlan, time_interleaved

    model = Classifier(described / "int8.tflite", threads=1)
    run, tensor, image = model._first.run, model.encode(images[0]), images[0]
    plan = TimingPlan(rounds=20, slice_ms=20)
    ours, bare_loop = time_interleaved([lambda: model.predict(image), lambda: run(tensor)], plan)
    extra = [np.median(a) - np.median(b) for a, b in zip(ours, bare_loop, strict=True)]
    assert np.median(extra) < 12_000  # nanoseconds


# In a process of its own: what earlier tests left in this one grows and shrinks by megabytes.
_GROWTH = """
import sys
from pathlib import Path
import numpy as np
from edgecifar.runtime import Classifier
def resident_kilobytes():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
model, image = Classifier(sys.argv[1]), np.load(sys.argv[2])
for _ in range(5_000):
    model.predict(image)
before = resident_kilobytes()
for _ in range(100_000):
    model.predict(image)
print(resident_kilobytes() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow(described, images, tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells the resident set")
    np.save(tmp_path / "image.npy", images[0])
    command = [sys.executable, "-c", _GROWTH, described / "int8.tflite", tmp_path / "image.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # One leaked result a call would be 10 MB at least.
    assert int(done.stdout) < 2_000


def test_a_classifier_of_one_number_is_refused(bare, tmp_path):
    """Softmax makes 1 of any number: all images would be of class 0, with certainty."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bare / "float32.onnx")
    dense = next(value for value in model.graph.initializer if value.name == "dense")
    weights = onnx.numpy_helper.to_array(dense)[:, :1]
    dense.CopyFrom(onnx.numpy_helper.from_array(weights.copy(), "dense"))
    model.graph.node[-1].op_type = "Sigmoid"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    with pytest.raises(EdgecifarError, match=r"one\.onnx: it gives one number"):
        Classifier(tmp_path / "one.onnx")


@pytest.mark.parametrize("threads", [-1, 0, 257, 33_000])
def test_no_threads_and_too_many_are_refused(described, threads):
    """With thousands interpreters crash."""
    with pytest.raises(EdgecifarError, match=f"{threads} threads: give 1 to 256"):
        Classifier(described / "int8.tflite", threads=threads)
