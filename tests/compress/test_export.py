import dataclasses
import json
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from edgecifar.compress import export as module
from edgecifar.compress.confidence import divide_logits, divisor
from edgecifar.compress.export import PartlyExportedError, export
from edgecifar.compress.formats import FORMATS
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime import modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.description import describe, lines
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import open_model
from edgecifar.runtime.verification import verify
from edgecifar.train.evaluate import accuracy, predict
from edgecifar.train.run import Run
from edgecifar.train.session import train
from edgecifar.train.settings import Training


@pytest.fixture(scope="module")
def exported(digits, digits_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return {item.path.name: item for item in export(digits_run, digits, FORMATS, folder=folder)}


def test_names_say_what_a_file_is(exported):
    assert sorted(exported) == [
        "resnet8-dynamic.tflite",
        "resnet8-float16.tflite",
        "resnet8-float32.onnx",
        "resnet8-float32.tflite",
        "resnet8-int16x8.tflite",
        "resnet8-int8.onnx",
        "resnet8-int8.tflite",
    ]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("resnet8-float32.tflite", 1e-5),
        ("resnet8-float32.onnx", 1e-5),
        ("resnet8-float16.tflite", 0.02),  # 11 bits of mantissa in every weight
        ("resnet8-dynamic.tflite", 0.2),
        ("resnet8-int8.tflite", 0.3),
        ("resnet8-int8.onnx", 0.3),
        ("resnet8-int16x8.tflite", 0.2),  # its weights have 8 bits
    ],
)
def test_files_compute_what_keras_computes(digits, digits_run, exported, name, tolerance):
    model = digits_run.load_model()
    assert divide_logits(model, divisor(digits_run))
    keras = predict(model, digits.validation)
    found = Classifier(exported[name].path).predict(digits.validation.images).probabilities
    assert np.abs(found - keras).max() < tolerance
    assert np.abs(found - keras).max() == pytest.approx(exported[name].parity.largest_difference)


def test_a_file_describes_itself(digits, digits_run, exported):
    path = exported["resnet8-int8.tflite"].path
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("edgecifar.json"))
        assert archive.read("labels.txt").decode().split() == list(digits.classes)
    assert metadata["name"] == "resnet8-int8"
    assert metadata["input"] == {"shape": [1, 32, 32, 3], "encoding": "pixel-128"}
    assert metadata["dataset"] == digits_run.info["dataset"]
    assert metadata["accuracy"]["float"]["split"] == "validation"
    assert metadata["parity"]["n"] == len(digits.validation)
    assert metadata["payload_bytes"] == exported["resnet8-int8.tflite"].payload_bytes


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_onnx_carries_the_same(exported, kind):
    model = modelfile.read(exported[f"resnet8-{kind}.onnx"].path)
    assert model.metadata["name"] == f"resnet8-{kind}"
    assert model.metadata["input"]["encoding"] == "pixel"
    assert model.labels == tuple(model.metadata["labels"])


def test_a_device_can_verify_every_file(exported):
    for item in exported.values():
        found = verify(item.path)
        assert found.problem is None
        assert found.agreement.identical  # on the same machine


def test_int16_files_take_pixels_times_242(exported):
    path = exported["resnet8-int16x8.tflite"].path
    classifier = Classifier(path)
    white, black = np.full((32, 32, 3), 255, np.uint8), np.zeros((32, 32, 3), np.uint8)
    assert classifier.encode(white).dtype == np.int16
    assert (classifier.encode(white).max(), classifier.encode(black).min()) == (32670, -29040)
    taken = open_model(classifier.model).input
    assert taken.zero_point == 0
    assert taken.scale * 242 == pytest.approx(1 / 64)  # a step of a pixel, normalised
    assert "15 operations, all on integers" in exported[path.name].verdict


def test_verdicts_are_kept(exported):
    item = exported["resnet8-int8.onnx"]
    files = json.loads((item.path.parent / "exports.json").read_text())["files"]
    assert set(files) == set(exported)
    kept = files[item.path.name]
    assert kept["verdict"] == item.verdict
    assert kept["parity"]["agreement"] == item.parity.agreement
    assert kept["first_diverging_layer"] is None
    assert kept["payload_bytes"] < kept["keras_bytes"] / 2


@pytest.fixture(scope="module")
def fine_tuned(digits, digits_qat_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine-tuned")
    (item,) = export(digits_qat_run, digits, ["int8"], folder=folder)
    return item


def test_the_fine_tuned_file_computes_what_training_simulated(fine_tuned):
    assert fine_tuned.path.name == "resnet8-qat-int8.tflite"
    assert fine_tuned.parity.agreement > 95


def test_it_tells_the_accuracy_of_the_float_original(digits, digits_run, fine_tuned):
    told = modelfile.read(fine_tuned.path).metadata["accuracy"]
    validation = digits_run.metrics["validation"]
    assert told["float"] == {key: validation[key] for key in ("top1", "low", "high", "n")} | {
        "split": "validation"
    }
    assert told["simulated"]["top1"] == fine_tuned.parity.keras["top1"]
    assert told["this"]["top1"] == fine_tuned.parity.file["top1"]
    shown = "\n".join(lines(describe(fine_tuned.path)))
    assert len([line for line in shown.splitlines() if line.startswith("top-1")]) == 3


def test_its_verdict_tells_what_fine_tuning_has_lost(digits, digits_run, fine_tuned):
    probabilities, labels = digits_run.predictions("validation")
    before = (probabilities.argmax(axis=1) == labels).mean()
    change = fine_tuned.parity.original_change
    assert change.value == pytest.approx(fine_tuned.parity.file["top1"] - 100 * before)
    assert f"against {digits_run.name} in float" in fine_tuned.verdict


def test_a_float_model_s_file_has_no_other_original(exported):
    assert all(item.parity.original is None for item in exported.values())


def test_a_file_without_weights_in_int8_is_none_of_them(digits, tmp_path):
    """The converter leaves small kernels in float."""
    small = train("edge-4-s8", digits, Training(epochs=1, batch_size=64), tmp_path / "small")
    with pytest.raises(EdgecifarError, match="none of its 3 kernels in int8, the converter leaves"):
        export(small, digits, ["dynamic"])
    assert not list(small.exports.glob("*.tflite"))


def test_a_file_says_how_much_of_it_is_in_int8(exported):
    told = exported["resnet8-dynamic.tflite"].verdict
    assert "; 7 of 10 kernels in int8, 98% of their weights" in told


def test_only_images_that_both_were_asked_about_count(digits_run, digits_qat_run):
    with np.load(digits_run.path / "predictions-validation.npz") as stored:
        right = stored["probabilities"].argmax(axis=1) == stored["labels"]
    parity = SimpleNamespace(n=50, keras={"top1": 1.0}, file={"top1": 2.0})
    told = module._accuracies(digits_qat_run, parity)
    assert told["float"] == accuracy(right[:50])
    assert told["simulated"] == {"top1": 1.0}


def test_away_from_its_original_it_says_nothing_of_that(digits_qat_run, tmp_path):
    moved = Run(tmp_path / "resnet8-qat")
    shutil.copytree(digits_qat_run.path, moved.path)
    parity = SimpleNamespace(n=50, keras={"top1": 1.0}, file={"top1": 2.0})
    assert module._accuracies(moved, parity) == {"simulated": {"top1": 1.0}, "this": {"top1": 2.0}}


def test_a_fine_tuned_run_has_no_float_export(digits, digits_qat_run, tmp_path):
    with pytest.raises(EdgecifarError, match="export float32 from resnet8, the run it came from"):
        export(digits_qat_run, digits, ["float32"], folder=tmp_path)


def test_an_existing_file_is_kept(digits, digits_run, exported):
    path = exported["resnet8-int8.tflite"].path
    before = path.read_bytes()
    with pytest.raises(EdgecifarError, match="exists: --force overwrites it"):
        export(digits_run, digits, ["int8"], folder=path.parent)
    assert path.read_bytes() == before


def test_other_data_are_refused(digits, digits_run, tmp_path):
    other = dataclasses.replace(digits, name="others", fingerprint="0" * 64)
    with pytest.raises(EdgecifarError, match="give the same --data"):
        export(digits_run, other, ["int8"], folder=tmp_path)


def test_a_wrong_conversion_leaves_no_file(digits, digits_run, tmp_path, monkeypatch):
    """A converter that gives the graph of another model must not get past the comparison."""
    right = FORMATS["float32"]

    def convert(model, images):
        other = digits_run.load_model()
        other.layers[-2].set_weights([-w for w in other.layers[-2].get_weights()])
        return right.convert(other, images)

    wrong = dataclasses.replace(right, convert=convert)
    monkeypatch.setitem(FORMATS, "float32", wrong)
    with pytest.raises(EdgecifarError, match=r"differs from Keras by .*first layer .* dense"):
        export(digits_run, digits, ["float32"], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_number_is_no_parity(digits, digits_run, tmp_path, monkeypatch):
    def convert(model, images):
        broken = digits_run.load_model()
        broken.layers[-2].set_weights([w * np.nan for w in broken.layers[-2].get_weights()])
        return to_tflite(broken, "float32", images)

    for name in ("float32", "float16"):  # the second is not compared exactly
        wrong = dataclasses.replace(FORMATS[name], convert=convert)
        monkeypatch.setitem(FORMATS, name, wrong)
        with pytest.raises(EdgecifarError, match=r"differs from Keras by nan .* dense"):
            export(digits_run, digits, [name], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_integer_files_take_calibration_images(digits, digits_run, digits_qat_run, tmp_path):
    train = dataclasses.replace(
        digits.train, images=digits.train.images[:5], labels=digits.train.labels[:5]
    )
    few = dataclasses.replace(digits, train=train)
    export(digits_run, few, ["float32"], folder=tmp_path)
    export(digits_qat_run, few, ["int8"], folder=tmp_path)  # has ranges of its own
    for name in ("int8", "onnx-int8"):
        with pytest.raises(EdgecifarError, match="5 training images are too few to calibrate"):
            export(digits_run, few, [name], folder=tmp_path)


def test_files_before_a_failure_are_recorded(digits, digits_run, tmp_path, monkeypatch):
    def fail(model, images):
        raise EdgecifarError("no such operation")

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], convert=fail))
    with pytest.raises(PartlyExportedError, match=r"^no such operation$") as caught:
        export(digits_run, digits, ["float32", "onnx", "float16"], folder=tmp_path)
    written = ["resnet8-float32.tflite", "resnet8-float16.tflite"]
    assert [item.path.name for item in caught.value.exported] == written
    record = json.loads((tmp_path / "exports.json").read_text())["files"]
    assert list(record) == written


@pytest.mark.parametrize("text", ['{"a": 1}', "[]"])
def test_a_foreign_record_is_left_alone(digits, digits_run, tmp_path, text):
    (tmp_path / "exports.json").write_text(text)
    with pytest.raises(
        EdgecifarError, match=r"exports\.json is no record of exports: give another"
    ):
        export(digits_run, digits, ["float32"], folder=tmp_path)
    assert (tmp_path / "exports.json").read_text() == text
    assert len(list(tmp_path.iterdir())) == 1


def test_an_int8_file_far_from_keras_says_where_it_parts(digits, digits_run, tmp_path, monkeypatch):
    right = FORMATS["int8"]

    def convert(model, images):
        broken = digits_run.load_model()
        kernel, *rest = broken.get_layer("conv2d_4").get_weights()
        broken.get_layer("conv2d_4").set_weights([-kernel, *rest])
        return right.convert(broken, images)

    monkeypatch.setitem(FORMATS, "int8", dataclasses.replace(right, convert=convert))
    (item,) = export(digits_run, digits, ["int8"], folder=tmp_path)
    assert "less than 95 % agree: first layer to differ is re_lu_3 (one operation" in item.verdict
    assert ", which `edgecifar quantize`, or layers in float, may mend" in item.verdict
    kept = json.loads((tmp_path / "exports.json").read_text())["files"][item.path.name]
    assert kept["first_diverging_layer"]["fused"] == ["conv2d_4", "batch_normalization_3"]


def test_a_float_operation_fails_an_int8_export(digits, digits_run, tmp_path, monkeypatch):
    dynamic = FORMATS["dynamic"].convert
    monkeypatch.setitem(FORMATS, "int8", dataclasses.replace(FORMATS["int8"], convert=dynamic))
    with pytest.raises(EdgecifarError, match="not int8 throughout, these stay in float: MUL"):
        export(digits_run, digits, ["int8"], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
