from dataclasses import dataclass

import pytest

from edgecifar.compress import int8 as module
from edgecifar.compress.calibration import Outlier, calibration_images
from edgecifar.compress.export import Exported, export
from edgecifar.compress.inspect import operations
from edgecifar.compress.int8 import Int8, int8_but
from edgecifar.compress.quantize import Quantization
from edgecifar.runtime import modelfile
from edgecifar.runtime.description import describe, lines
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture(scope="module")
def model(digits_run):
    return digits_run.load_model()


@pytest.fixture(scope="module")
def dense(model):
    return model.layers[-2].name


@dataclass(frozen=True)
class Result:
    """Two files, what was said while they were made and the layers whose ranges were looked at."""

    item: Exported
    onnx: Exported
    said: list
    looked_at: list


@pytest.fixture(scope="module")
def result(digits, digits_run, dense, tmp_path_factory):
    said, looked_at = [], []

    def find(model, images, layers):
        looked_at.append(layers)
        return [Outlier("re_lu", 0, 100, 0, 2)]

    int8, folder = Int8((dense,), calibration=50), tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "outliers", find)
        names = ["int8", "onnx-int8"]
        items = export(digits_run, digits, names, folder=folder, int8=int8, report=said.append)
    return Result(*items, said, looked_at)


@pytest.fixture(scope="module")
def exported(result):
    return result.item


def test_a_file_says_which_layers_are_in_float(exported, dense):
    assert exported.path.name == f"resnet8-int8-float-{dense}.tflite"
    file = modelfile.read(exported.path)
    assert file.metadata["float_layers"] == [dense]
    shown = [line.split() for line in lines(describe(exported.path))]
    assert ["layers", "in", "float", dense] in shown
    assert (
        exported.computes == f"14 operations on integers; 3 in float or leading there, for {dense}"
    )
    assert [op.name for op in operations(file.payload) if op.is_float] == [
        "DEQUANTIZE",
        "FULLY_CONNECTED",
        "QUANTIZE",
    ]


def test_an_onnx_file_has_the_same_layers_in_float(result, dense):
    assert result.onnx.path.name == f"resnet8-int8-float-{dense}.onnx"
    assert modelfile.read(result.onnx.path).metadata["float_layers"] == [dense]
    assert "1 QGemm" not in result.onnx.computes
    assert result.onnx.computes.endswith(
        f"1 conversions to or from float left, for {dense} in float"
    )


def test_another_layer_in_float_fails(model, exported):
    payload = modelfile.read(exported.path).payload
    with pytest.raises(EdgecifarError, match=r"these stay in float: FULLY_CONNECTED \("):
        int8_but((model.layers[1].name,)).inspect(payload, model, "net")


def test_what_has_an_integer_kernel_all_the_same_is_said(model, digits):
    form = int8_but(("add",), "onnx-int8")
    payload = form.convert(model, calibration_images(digits, 50))
    assert form.inspect(payload, model, "net").endswith(
        "for add in float, but integer kernels for add all the same"
    )


@pytest.mark.parametrize(
    ("int8", "formats", "message"),
    [
        (Int8(("conv",)), ["int8"], r"no layer is called 'conv'.*did you mean conv2d"),
        (Int8(("conv",)), ["float32"], "--keep-float is for int8 files: give --int8 too"),
        (Int8(max_drop=1), ["float32"], "--max-drop is for int8 files: give --int8 too"),
        (Int8(("conv",), 1), ["int8"], "--max-drop finds the layers to keep in float: leave one"),
        (Int8(max_drop=-1), ["int8"], "give points of top-1"),
        (Int8(calibration=2), ["float32"], "2 calibration images are too few"),
        (Int8(calibration=200), ["float32"], "--calibration is for integer files: give --int8"),
    ],
)
def test_what_cannot_be_done_is_said(digits, digits_run, model, int8, formats, message):
    with pytest.raises(EdgecifarError, match=message):
        int8.require_fit(digits_run, model, digits, formats)


def test_a_layer_named_twice_is_one():
    """Or a run and a file of another name would come of it."""
    assert Int8(("a", "b", "a")).keep_float == ("a", "b")
    assert Quantization(keep_float=("a", "a")).keep_float == ("a",)


def test_it_is_said_before_work(digits, digits_run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "calibration_images", None)  # which comes first
    with pytest.raises(EdgecifarError, match="no layer is called"):
        export(digits_run, digits, ["int8"], folder=tmp_path, int8=Int8(("conv",)))
    (tmp_path / "resnet8-int8-float-conv2d.onnx").touch()  # what a search may come to
    with pytest.raises(EdgecifarError, match=r"float-conv2d\.onnx exists: --force overwrites it"):
        export(digits_run, digits, ["int8", "onnx-int8"], folder=tmp_path, int8=Int8(max_drop=1))


def test_a_fine_tuned_run_has_its_layers_already(digits, digits_qat_run, tmp_path):
    with pytest.raises(EdgecifarError, match="comes too late, give --keep-float to `edgecifar q"):
        export(digits_qat_run, digits, ["int8"], folder=tmp_path, int8=Int8(("dense",)))


def test_the_budget_decides_what_is_exported(digits, stretched, tmp_path):
    said = []
    int8 = Int8(max_drop=1.0, calibration=50)
    (item,) = export(
        stretched.run, digits, ["int8"], folder=tmp_path, int8=int8, report=said.append
    )
    assert item.path.name == f"stretched-int8-float-{'+'.join(stretched.layers)}.tflite"
    assert item.parity.agreement > 95
    assert any("that costs" in line for line in said)


def test_a_distorted_range_is_told_with_the_file(model, dense, result):
    divided, warning = result.said
    assert divided.startswith("logits divided by 0.")
    assert warning == Outlier("re_lu", 0, 100, 0, 2).warning
    assert len(result.looked_at) == 2  # what both files have is told once
    for layers in result.looked_at:
        kinds = [type(model.get_layer(name)).__name__ for name in layers]
        assert kinds.count("ReLU") == 7  # a convolution's or addition's range is that of its ReLU
        assert "Softmax" not in kinds
        assert dense not in layers
