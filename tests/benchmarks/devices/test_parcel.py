import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from edgecifar.benchmarks.devices import parcel
from edgecifar.benchmarks.devices.parcel import pack, runtime_wheel, unpack
from edgecifar.runtime import results
from edgecifar.runtime.agent import settings_from
from edgecifar.runtime.benchmark import Settings
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.labelled import read_labelled
from edgecifar.runtime.timing import TimingPlan


def test_a_parcel_is_named_by_its_content(tiny_models, tiny_data, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    settings = Settings(images=20, threads=(1, 2), plan=TimingPlan(rounds=3))
    first = pack(tiny_models, tiny_data, settings, tmp_path / "a")
    again = pack(tiny_models, tiny_data, settings, tmp_path / "b")
    assert (first.key, first.request) == (again.key, again.request)
    assert pack(tiny_models, tiny_data, Settings(), tmp_path / "b").key != first.key
    assert settings_from(first.request["settings"]) == settings
    stored = next(name for name in first.files if name.endswith(".npz"))
    labelled = read_labelled(tiny_data, image_size=(8, 8))
    with np.load(first.files[stored]) as arrays:
        assert np.array_equal(arrays["images"], labelled.images[:20])
        assert np.array_equal(arrays["labels"], labelled.labels[:20])
    assert first.request["data"]["fingerprint"] == labelled.fingerprint


def test_the_same_images_in_another_order_are_others(tiny_models, tiny_data, tmp_path, monkeypatch):
    """Or a device would go on with those that it has, whose answers belong elsewhere."""
    labelled = read_labelled(tiny_data, image_size=(8, 8))
    first = pack(tiny_models, tiny_data, Settings(), tmp_path)
    turned = replace(labelled, images=labelled.images[::-1], labels=labelled.labels[::-1])
    monkeypatch.setattr(parcel, "read_labelled", lambda *_, **__: turned)
    second = pack(tiny_models, tiny_data, Settings(), tmp_path)
    assert first.request["data"]["fingerprint"] == second.request["data"]["fingerprint"]
    assert first.key != second.key
    assert not {*first.request["data"]["stored"]} & {*second.request["data"]["stored"]}


def test_the_smallest_images_tell_of_all(tiny_models, tiny_data, tmp_path, monkeypatch):
    """As in a bench of this machine, in whatever order the files come."""
    sizes = dict(zip(tiny_models, ((8, 8), (12, 10)), strict=True))
    monkeypatch.setattr(parcel, "_image_size", sizes.get)
    fingerprint = read_labelled(tiny_data, image_size=(8, 8)).fingerprint
    for models in (tiny_models, tiny_models[::-1]):
        found = pack(models, tiny_data, Settings(), tmp_path).request["data"]
        assert found["fingerprint"] == fingerprint
        assert len(found["stored"]) == 2


def test_a_missing_file(tmp_path, tiny_models):
    with pytest.raises(EdgecifarError, match="no such model"):
        pack([tmp_path / "none.onnx"], None, Settings(), tmp_path)


def test_a_result_gets_the_names_of_this_machine(tiny_models, tmp_path):
    packed = pack(tiny_models, None, Settings(), tmp_path)
    rows = [
        {"file": "/there/0/first.onnx", "name": "first"},
        {"file": "/there/1/second.onnx", "name": "second", "error": "/there/1/second.onnx: bad"},
    ]
    found = unpack(packed, {"models": rows}, "ssh://x")
    assert [row["file"] for row in found["models"]] == [str(path) for path in tiny_models]
    assert found["models"][1]["error"] == f"{tiny_models[1]}: bad"
    assert found["device"] == "ssh://x"
    assert results.seal(found) == found


def test_the_wheel_runs_alone(tmp_path):
    wheel = runtime_wheel(tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    assert runtime_wheel(again).read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = archive.namelist()
    assert {"edgecifar/runtime/agent.py", "edgecifar/runtime/commands/bench.py"} <= set(names)
    assert not any(name.startswith(("edgecifar/train", "tests")) for name in names)
    code = (
        "import sys, edgecifar.runtime.agent as a; print(a.__file__); "
        "print([n for n in sys.modules if n.split('.')[0] in ('click', 'tensorflow')"
        " or n.startswith(('edgecifar.train', 'edgecifar.benchmarks'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str(tmp_path / "site/edgecifar/runtime/agent.py"), "[]"]


def test_the_wheel_can_be_installed(tmp_path):
    wheel = runtime_wheel(tmp_path)
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--target", target, wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    assert (target / "edgecifar/runtime/agent.py").exists()
