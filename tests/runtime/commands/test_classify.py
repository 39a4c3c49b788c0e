import io
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import Classifier, cameras, classifier, modelfile, shipped
from edgecifar.runtime.commands.classify import classify_sources

command = sys.modules[classify_sources.__module__]  # whose name in the package is the command


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
    assert result.stdout.startswith("- 1: ")


def test_a_stream_of_images_on_standard_input(edgecifar, model, photos, images):
    stream = b"".join((photos / f"{row}.png").read_bytes() for row in range(3))
    result = edgecifar("classify", "-", "--model", model, "--json", input=stream)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["file"] for entry in found] == ["- 1", "- 2", "- 3"]
    assert tuple(e["label"] for e in found) == Classifier(model).predict(images[:3]).labels


def test_file_names_on_standard_input(edgecifar, model, photos):
    names = [str(photos / "2.png"), str(photos / "0.png")]
    result = edgecifar("classify", "-", "--model", model, input="\n".join(names) + "\n")
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == names


def test_a_pattern_and_a_limit(edgecifar, model, photos):
    result = edgecifar("classify", photos / "*.png", "--model", model, "--count", 2)
    assert result.stdout.count("\n") == 2


def test_a_camera(edgecifar, model, photos, images):
    options = ("--fake-camera", photos, "--interval", 0, "--json", "--model", model)
    found = [json.loads(line) for line in edgecifar("classify", *options).stdout.splitlines()]
    assert [entry["file"] for entry in found] == ["frame 1", "frame 2", "frame 3"]
    assert tuple(e["label"] for e in found) == Classifier(model).predict(images[:3]).labels


def test_a_camera_without_its_library(fails, model, monkeypatch):
    for name in ("picamera2", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    for numpy, mend in (("1.26.4", '-headless "numpy<2"`'), ("2.1.0", "-headless`")):
        monkeypatch.setattr(np, "__version__", numpy)
        told = fails("classify", "--camera", "--model", model)
        assert "no camera library" in told
        assert mend in told


def test_a_watched_folder(edgecifar, model, images, tmp_path, monkeypatch):
    """What appears while the model is loaded, which takes a Pi seconds, isn't missed."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    Image.fromarray(images[0]).save(folder / "old.png")

    def load(*arguments, **options):
        Image.fromarray(images[1]).save(folder / "new.png")
        return Classifier(*arguments, **options)

    looks = iter(range(9))  # and no more, so that what is missed doesn't hang
    monkeypatch.setattr(classifier, "Classifier", load)
    monkeypatch.setattr(cameras.time, "sleep", lambda seconds: next(looks))
    result = edgecifar("classify", "--watch", folder, "--count", 1, "--model", model)
    assert result.stdout.startswith(f"{folder / 'new.png'}: ")


def test_one_source_at_a_time(edgecifar, model, photos):
    assert edgecifar("classify", photos, "--camera", "--model", model).exit_code == 2
    assert edgecifar("classify", photos, "--watch", photos, "--model", model).exit_code == 2


def test_a_file_that_nothing_vouches_for_is_told_apart(edgecifar, bare, photos, model):
    result = edgecifar("classify", photos / "0.png", "--model", bare / "float32.tflite")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: ")
    assert result.stderr.count("\n") == 1
    assert edgecifar("classify", photos / "0.png", "--model", model).stderr == ""


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
    assert "no answer of" in text.stderr
    assert "is surer than 0.9961: with --min-confidence 1 all are unsure" in text.stderr
    for path, most in ((model, "0.99"), (model.with_name("float32.onnx"), "1")):
        quiet = edgecifar("classify", photos / "0.png", "--model", path, "--min-confidence", most)
        assert "is surer than" not in quiet.stderr


def test_labels_and_file_names_do_not_steer_the_terminal(edgecifar, model, photos):
    steering = ["ant\x1b[31m", "bee\x1b[31m\r", "cow\x9b31m", "dog\n/safe.png: cow 99 %"]
    modelfile.append(model, {"input": {"encoding": "pixel-128"}, "labels": steering}, None)
    os.rename(photos / "0.png", photos / "0\x1b[2J.png")
    (photos / "1.png").rename(photos / "1\n.png").write_bytes(b"no image")
    result = edgecifar("classify", photos, "--model", model, "--top", 4)
    assert len(result.stdout.splitlines()) == 2
    for text in (result.stdout, result.stderr):
        assert all(line.isprintable() for line in text.splitlines())
    assert r"0\x1b[2J.png: " in result.stdout
    assert r"dog\n/safe.png: cow 99 %" in result.stdout
    assert r"1\n.png is not an image" in result.stderr
    result = edgecifar("classify", photos / "2.png", "--model", model, "--top", 4, "--json")
    assert {entry["label"] for entry in json.loads(result.stdout)["top"]} == set(steering)


def test_what_is_not_a_number_is_unsure(edgecifar, model, photos, monkeypatch):
    def decoder(spec, metadata):
        return lambda scores: np.full(scores.shape, np.nan, np.float32)

    monkeypatch.setattr(classifier, "score_decoder", decoder)
    options = ("classify", photos / "0.png", "--model", model, "--min-confidence", "0.6")
    assert ": unsure (ant nan %)" in edgecifar(*options).stdout
    text = edgecifar(*options, "--json").stdout
    found = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert found["label"] == "unsure"
    assert found["probability"] is found["top"][0]["probability"] is None


def test_a_missing_path_does_not_take_others_along(edgecifar, model, photos, tmp_path):
    (photos / "1b.png").symlink_to(tmp_path / "gone.png")
    paths = (photos / "0.png", tmp_path / "none.png", tmp_path / "*.gif", photos)
    result = edgecifar("classify", *paths, "--model", model)
    assert result.exit_code == 1
    names = [line.partition(": ")[0] for line in result.stdout.splitlines()]
    assert names == [str(photos / name) for name in ("0.png", "0.png", "1.png", "2.png")]
    errors = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in errors] == ["Error"] * 3
    for name, line in zip(("none.png", "*.gif", "1b.png"), errors, strict=True):
        assert name in line


def test_names_that_are_not_utf8(model, photos):
    name = os.fsencode(photos) + b"/caf\xe9.png"
    os.rename(photos / "0.png", name)
    command = [sys.executable, "-m", "edgecifar.runtime", "classify", name, "--model", model]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, check=True, env=strict)
    assert b"caf\\udce9.png: " in done.stdout
    assert done.stderr == b""
    done = subprocess.run([*command, "--json"], capture_output=True, check=True, env=strict)
    assert os.fsencode(json.loads(done.stdout)["file"]) == name


def test_without_a_model_the_one_that_ships_classifies(edgecifar, photos):
    result = edgecifar("classify", photos / "0.png", "--json", "--top", 10)
    assert result.exit_code == 0
    assert result.stderr == ""
    labels = [entry["label"] for entry in json.loads(result.stdout)["top"]]
    assert sorted(labels) == sorted(Classifier().classes)
    assert "airplane" in labels


def test_a_named_interpreter(edgecifar, fails, described, photos):
    options = ("classify", photos / "0.png", "--backend")
    model = ("--model", described / "float32.onnx")
    assert edgecifar(*options, "onnxruntime", *model).exit_code == 0
    assert "no interpreter 'litert' for .onnx files" in fails(*options, "litert", *model)
    assert edgecifar(*options, "litert").exit_code == 0
    assert "no interpreter 'onnxruntime' for .tflite files" in fails(*options, "onnxruntime")


def test_one_bad_image_among_good_ones(edgecifar, model, photos):
    (photos / "1.png").write_text("no image at all")
    result = edgecifar("classify", photos, "--model", model)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.count("Error: ") == 1
    assert "1.png" in result.stderr
    lines = edgecifar("classify", photos, "--model", model, "--json").stdout.splitlines()
    failed = json.loads(lines[1])
    assert failed["file"] == str(photos / "1.png")
    assert "is not an image" in failed["error"]
    assert ["label" in json.loads(line) for line in lines] == [True, False, True]


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
        "         'rich', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_json_is_ascii_whatever_the_locale(edgecifar, model, photos, tmp_path):
    odd = (photos / "0.png").rename(photos / "\N{CAMERA}.png")
    line = edgecifar("classify", odd, "--model", model, "--json").stdout
    assert line.isascii()
    assert json.loads(line)["file"] == str(odd)


def test_a_closed_standard_input(model):
    command = [sys.executable, "-c", "from edgecifar.runtime.commands import main; main()"]
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command, "classify", "-", "--model", str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "standard input is closed" in done.stderr


def test_an_interval_is_a_camera_s(edgecifar, model, photos, tmp_path):
    for source in ((photos,), ("--watch", tmp_path)):
        result = edgecifar("classify", *source, "--interval", 9, "--model", model)
        assert result.exit_code == 2
        assert "--interval is a camera's" in result.stderr


def test_what_is_told_of_an_unreadable_image_holds_none_of_it(photos, model):
    """A traceback would: the pixels of dozens, decoded in full, until all of them are told."""
    whole = (photos / "0.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    sources = [("cut", photos / "cut.png")]
    ((name, outcome),) = classify_sources(Classifier(model), sources)
    assert name == "cut"
    assert "cut.png" in str(outcome)
    assert (outcome.__traceback__, outcome.__context__) == (None, None)


def test_large_photos_do_not_wait_for_a_whole_batch(model, photos, images, monkeypatch):
    monkeypatch.setattr(command, "_BATCH_SECONDS", 0)
    read = []

    def sources():
        for number in range(40):
            read.append(number)
            yield str(number), images[number]

    found = classify_sources(Classifier(model, threads=2), sources())
    assert next(found)[0] == "0"
    assert len(read) < 10
    told = [next(found)[0], *(name for name, _ in found)]
    assert told == [str(number) for number in range(1, 40)]


def test_several_images_are_read_at_once_and_keep_their_order(model, images, monkeypatch):
    together, read = threading.Barrier(2), command._read

    def read_beside_another(name, *how):
        together.wait(timeout=20)  # breaks if one after another is read
        time.sleep(0.01 * (name == "0"))
        return read(name, *how)

    monkeypatch.setattr(command, "_read", read_beside_another)
    sources = [(str(row), image) for row, image in enumerate(images[:6])]
    found = dict(classify_sources(Classifier(model, threads=2), sources, top=4))
    assert list(found) == [name for name, _ in sources]
    assert list(found.values()) == Classifier(model).predict(images[:6]).top(4)


def test_what_is_live_is_not_read_ahead(model, images):
    taken = []

    def sources():
        for row in range(3):
            taken.append(row)
            yield str(row), images[row]

    next(classify_sources(Classifier(model, threads=2), sources(), batch=1))
    assert taken == [0]


@pytest.mark.parametrize("name", ["classify", "bench", "info", "verify"])
def test_help_names_the_models_that_ship(name):
    asked = [sys.executable, "-m", "edgecifar.runtime", name, "--help"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert f"ship: {shipped.listed()}." in " ".join(told.replace("ships:", "ship:").split())


def test_threads_have_a_limit(edgecifar, photos):
    result = edgecifar("classify", photos, "--threads", 33000)
    assert result.exit_code == 2
    assert "1<=x<=256" in result.stderr


def test_an_empty_path_is_not_the_working_folder(fails, model, photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert "an empty path: give an image" in fails("classify", "", "--model", model)
