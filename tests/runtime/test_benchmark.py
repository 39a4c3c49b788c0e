import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime import Classifier
from edgecifar.runtime.benchmark import bench
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.timing import TimingPlan

QUICK = TimingPlan(rounds=4, slice_ms=2, warm_up_ms=5)
CLASSES = ("ant", "bee", "cow", "dog")


def test_a_whole_result(described, bare, labelled_npz, images):
    files = [described / "float32.tflite", described / "int8.tflite", bare / "float32.onnx"]
    result = json.loads(json.dumps(bench(files, data=labelled_npz, plan=QUICK), allow_nan=False))
    assert (result["schema"], result["kind"]) == (1, "bench")
    assert result["data"]["n"] == 64
    assert result["data"]["name"] == "insects"
    assert result["settings"] == {"threads": 1, "rounds": 4, "slice_ms": 2, "warm_up_ms": 5}
    names = [row["name"] for row in result["models"]]
    assert names == ["tiny-float32", "tiny-int8", "float32"]
    for row, path in zip(result["models"], files, strict=True):
        assert "error" not in row
        assert (
            0 < row["latency_us"]["median"] <= row["latency_us"]["p90"] <= row["latency_us"]["p99"]
        )
        assert row["file_bytes"] == path.stat().st_size
        assert row["peak_memory_bytes"] > row["model_memory_bytes"] >= 0
        assert row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]
        assert row["accuracy"]["n"] == 64
    assert result["models"][0]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_accuracy_is_the_classifiers(described, labelled_npz, images):
    path = described / "int8.tflite"
    accuracy = bench([path], data=labelled_npz, plan=QUICK)["models"][0]["accuracy"]
    correct = np.unpackbits(np.frombuffer(base64.b64decode(accuracy["correct"]), np.uint8))
    # Reading shuffles the images, so the bits are compared by their number.
    expected = (Classifier(path).predict(images).indices == np.arange(64) % 4).sum()
    assert correct[:64].sum() == expected
    assert accuracy["top1"] == pytest.approx(100 * expected / 64)
    assert accuracy["low"] < accuracy["top1"] < accuracy["high"]


def test_classes_are_matched_by_name(described, images, tmp_path):
    found = Classifier(described / "int8.tflite").predict(images).indices
    order = [2, 0, 3, 1]  # the data's classes in terms of the model's
    labels = np.array([order.index(index) for index in found])
    names = [CLASSES[index] for index in order]
    np.savez(tmp_path / "d.npz", images=images, labels=labels, classes=names, split="test")
    row = bench([described / "int8.tflite"], data=tmp_path / "d.npz", plan=QUICK)["models"][0]
    assert row["accuracy"]["top1"] == 100.0


@pytest.mark.parametrize(
    ("classes", "message"),
    [(("ant", "bee", "cow", "yak"), "'yak'"), (("ant", "bee", "cow"), "4 classes .* have 3")],
)
def test_other_classes_fail_the_row(described, images, tmp_path, classes, message):
    labels = np.arange(64) % len(classes)
    np.savez(tmp_path / "d.npz", images=images, labels=labels, classes=classes, split="test")
    row = bench([described / "int8.tflite"], data=tmp_path / "d.npz", plan=QUICK)["models"][0]
    assert row["accuracy"] is None
    assert row["latency_us"]["median"] > 0
    pytest.raises(EdgecifarError, _raise, row["error"]).match(message)


def _raise(text):
    raise EdgecifarError(text)


def test_a_failing_file_does_not_stop_the_others(described, tmp_path):
    (tmp_path / "bad.tflite").write_text("<html>")
    result = bench([tmp_path / "bad.tflite", described / "int8.tflite"], plan=QUICK)
    bad, good = result["models"]
    assert "HTML" in bad["error"]
    assert "latency_us" not in bad
    assert good["latency_us"]["n"] > 0
    assert good["ratio"] is None
    assert result["data"] is None


def test_all_files_failing(tmp_path):
    result = bench([tmp_path / "none.tflite"], plan=QUICK, data=tmp_path / "none")
    assert "no such model file" in result["models"][0]["error"]


def test_impossible_requests(described, tmp_path):
    with pytest.raises(EdgecifarError, match="0 threads"):
        bench([described / "int8.tflite"], threads=0)
    with pytest.raises(EdgecifarError, match="none"):
        bench([described / "int8.tflite"], data=tmp_path / "none", plan=QUICK)


@pytest.mark.slow
def test_the_peers_published_accuracies(peers):
    data = os.environ.get("EDGECIFAR_DATA")
    if not data:
        pytest.skip("EDGECIFAR_DATA isn't set")
    expected = {
        "pretrainedResnet.tflite": 87.19,
        "pretrainedResnet_quant.tflite": 86.97,
        "pretrainedResnet_large_float.tflite": 91.28,
        "pretrainedResnet_large_int8.tflite": 91.31,
    }
    result = bench([peers / name for name in expected], data=Path(data), plan=QUICK)
    found = {Path(row["file"]).name: row["accuracy"]["top1"] for row in result["models"]}
    assert found == {name: pytest.approx(top1) for name, top1 in expected.items()}
