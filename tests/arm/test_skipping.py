import pytest

from edgecifar.benchmarks.devices.emulated import EmulatedDevice
from edgecifar.benchmarks.devices.transport import UnreachableError
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture
def failing(monkeypatch):
    """Let the preparation of boards fail in some way; every tool is there."""
    monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")
    for name in ("CI", "EDGECIFAR_REQUIRE_ARM"):
        monkeypatch.delenv(name, raising=False)

    def fail(error):
        def python(self):
            raise error

        monkeypatch.setattr(EmulatedDevice, "python", python)

    return fail


def test_a_wheel_that_is_not_found_is_a_failure(failing, python_of):
    failing(EdgecifarError("pip failed while an emulated device was prepared (no wheel)"))
    with pytest.raises(EdgecifarError, match="no wheel"):
        python_of("pi4")


def test_without_a_network_tests_are_skipped(failing, python_of):
    failing(UnreachableError("no such mirror"))
    with pytest.raises(pytest.skip.Exception, match="no such mirror"):
        python_of("pi4")


@pytest.mark.parametrize("variable", ["CI", "EDGECIFAR_REQUIRE_ARM"])
def test_where_they_must_run_none_is_skipped(failing, python_of, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    failing(UnreachableError("no such mirror"))
    with pytest.raises(UnreachableError, match="no such mirror"):
        python_of("pi4")


def test_without_qemu_tests_are_skipped(failing, python_of, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda tool: None)
    with pytest.raises(pytest.skip.Exception, match="debootstrap is missing: apt-get install"):
        python_of("pi4")
