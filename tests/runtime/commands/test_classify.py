import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import Classifier


@pytest.fixture
def photos(images, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for row in range(3):
        Image.fromarray(images[row]).save(folder / f"{row}.png")
    return folder


@pytest.fixture
def model(described):
    return described / "int8.tflite"


def test_text(edgecifar, model, photos, images):
    result = edgecifar("classify", photos, "--model", model, "--top", 2)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    best = Classifier(model).predict(images[:3]).top(2)
    assert len(lines) == 3
    for row, line in enumerate(lines):
        expected = ", ".join(f"{label} {100 * p:.1f} %" for label, p in best[row])
        assert line == f"{photos / f'{row}.png'}: {expected}"


def test_json_lines(edgecifar, model, photos, images):
    result = edgecifar("classify", photos / "1.png", "--model", model, "--json", "--top", 4)
    found = json.loads(result.stdout)
    assert found["file"] == str(photos / "1.png")
    assert found["label"] == found["top"][0]["label"]
    assert sum(entry["probability"] for entry in found["top"]) == pytest.approx(1, abs=0.02)
    assert found["label"] == Classifier(model).predict(images[1]).labels[0]


def test_standard_input_and_any_size(edgecifar, model, images):
    stream = io.BytesIO()
    Image.fromarray(np.repeat(images[0], 9, axis=0)).convert("RGBA").save(stream, "PNG")
    result = edgecifar("classify", "-", "--model", model, input=stream.getvalue())
    assert result.exit_code == 0
    assert result.stdout.startswith("-: ")


def test_unsure(edgecifar, model, photos):
    sure = edgecifar("classify", photos / "0.png", "--model", model, "--json")
    unsure = edgecifar(
        "classify", photos / "0.png", "--model", model, "--json", "--min-confidence", "1"
    )
    assert json.loads(sure.stdout)["probability"] < 1
    assert json.loads(unsure.stdout)["label"] == "unsure"
    assert json.loads(sure.stdout)["label"] != "unsure"
    text = edgecifar("classify", photos / "0.png", "--model", model, "--min-confidence", "1")
    assert ": unsure (" in text.stdout


def test_one_bad_image_among_good_ones(edgecifar, model, photos):
    (photos / "1.png").write_text("no image at all")
    result = edgecifar("classify", photos, "--model", model)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.count("Error: ") == 1
    assert "1.png" in result.stderr


def test_bad_requests(fails, edgecifar, model, photos, tmp_path):
    assert "none.png" in fails("classify", tmp_path / "none.png", "--model", model)
    assert "no such model" in fails("classify", photos, "--model", tmp_path / "none.tflite")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    labels = ("--labels", tmp_path / "names.txt")
    assert "names 2" in fails("classify", photos, "--model", model, *labels)
    data = bytearray(model.read_bytes())
    data[len(data) // 3] ^= 1
    model.write_bytes(data)
    assert "damaged" in fails("classify", photos, "--model", model)
    assert edgecifar("classify").exit_code == 2


def test_clean_terminal_and_no_needless_import(model, photos):
    code = (
        "import sys\n"
        "from edgecifar.runtime.commands import main\n"
        f"main(['classify', {str(photos / '0.png')!r}, '--model', {str(model)!r}],\n"
        "     standalone_mode=False)\n"
        "heavy = {'tensorflow', 'onnxruntime', 'concurrent.futures', 'importlib.metadata',\n"
        "         'subprocess', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
