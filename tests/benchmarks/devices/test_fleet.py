import pytest

from edgecifar.benchmarks.devices import fleet
from edgecifar.runtime import results
from edgecifar.runtime.benchmark import Settings
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.timing import TimingPlan

QUICK = Settings(plan=TimingPlan(rounds=2, slice_ms=1, warm_up_ms=2), energy=False)


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


@pytest.fixture
def half(tiny_models, tmp_path):
    """A function that goes on with a bench on two devices, of which this machine's is done."""
    output = tmp_path / "r.json"
    fleet.bench_on(["local"], tiny_models, tmp_path / "r-local.json", data=None, settings=QUICK)

    def go_on(models=tiny_models, spec="local"):
        return fleet.bench_on(
            [spec, "ssh://nobody.invalid"], models, output, data=None, settings=QUICK
        )

    return go_on


def _changed(path, **environment):
    found = results.read(path)
    found["environment"] |= environment
    path.write_bytes(results.as_bytes(results.seal(found)))


def test_the_result_of_another_machine_is_not_taken(half, tmp_path):
    """As a colleague's workstation would have left it in a shared folder."""
    assert half()[0].errors == []
    _changed(tmp_path / "r-local.json", cpu="a colleague's")
    with pytest.raises(EdgecifarError, match=r"r-local\.json is of another device: give --json"):
        half()


def test_the_result_of_another_device_is_not_taken(half, tmp_path):
    (tmp_path / "r-local.json").rename(tmp_path / "r-pi-h.json")
    with pytest.raises(EdgecifarError, match=r"r-pi-h\.json is of another device"):
        half(spec="ssh://pi@h")


def test_a_device_on_which_a_file_failed_is_asked_again(half, tiny_models, tmp_path):
    assert half()[0].errors == []
    path = tmp_path / "r-local.json"
    found = results.read(path)
    found["models"][0] |= {"error": "the system killed it"}
    path.write_bytes(results.as_bytes(results.seal(found)))
    with pytest.raises(EdgecifarError, match=r"r-local\.json is of other files"):
        half(models=tiny_models[::-1])  # whose result this one would have replaced
    assert half()[0].errors == []
    assert "error" not in results.read(path)["models"][0]


def test_files_in_another_order_have_other_ratios(half, tiny_models):
    with pytest.raises(EdgecifarError, match=r"r-local\.json is of other files"):
        half(models=tiny_models[::-1])


def test_what_can_t_be_stored_stops_no_other_device(tiny_models, tmp_path, monkeypatch):
    def full(path, result):
        if "one" in path.name:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(fleet, "store", full)
    monkeypatch.setattr(fleet.SshDevice, "measure", lambda *_: {"models": []})
    monkeypatch.setattr(fleet.SshDevice, "forget", lambda *_: None)
    specs, output = ["ssh://one", "ssh://two"], tmp_path / "r.json"
    first, second = fleet.bench_on(specs, tiny_models, output, data=None, settings=QUICK)
    assert first.error == (
        f"{tmp_path / 'r-one.json'}: No space left on device: free some space there, or allow "
        "writing"
    )
    assert second.errors == []


def test_a_missing_folder_is_told_before_anything_is_measured(tiny_models, tmp_path, monkeypatch):
    monkeypatch.setattr(fleet.SshDevice, "measure", lambda *_: pytest.fail("measured"))
    output = tmp_path / "none" / "r.json"
    with pytest.raises(EdgecifarError, match="no such folder: create it first"):
        fleet.bench_on(["ssh://one"], tiny_models, output, data=None, settings=QUICK)
