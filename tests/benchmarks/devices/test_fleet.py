import pytest

from edgecifar.benchmarks.devices import fleet
from edgecifar.runtime.benchmark import Settings


@pytest.fixture
def outputs(tiny_models, tmp_path, monkeypatch):
    """Return the names of the files to which a bench on some devices would write."""
    monkeypatch.setattr(fleet, "_measure", lambda one, files, output, *_, **__: output.name)

    def names(*specs):
        output = tmp_path / "r.json"
        return fleet.bench_on(specs, tiny_models, output, data=None, settings=Settings())

    return names


def test_files_are_named_after_devices(outputs):
    assert outputs("ssh://pi@h", "emulated:pi4") == ["r-pi-h.json", "r-emulated-pi4.json"]
    assert outputs("ssh://pi@h") == ["r.json"]


def test_two_pythons_of_one_host_have_a_file_each(outputs):
    found = outputs("ssh://h?python=/a", "ssh://h?python=/b")
    assert found == ["r-h-python-a.json", "r-h-python-b.json"]


def test_names_that_differ_in_punctuation_alone_have_a_file_each(outputs):
    specs = ("ssh://pi@h", "ssh://pi-h", "ssh://h")
    found = outputs(*specs)
    assert len(set(found)) == 3
    assert found[2] == "r-h.json"
    assert outputs(*reversed(specs)) == found[::-1]
