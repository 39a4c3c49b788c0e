import stat
import sys

import pytest

from edgecifar.runtime import interpreters, modelfile, probe
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture
def model(bare, monkeypatch):
    monkeypatch.setattr(probe, "_checked", set())
    return modelfile.read(bare / "int8.tflite")


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Let a shell script stand for the Python that the child would be."""

    def install(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


def test_measures_a_fresh_process(model):
    found = probe.probe(model, "litert")
    assert 0 < found.load_ms < 10_000
    assert 0 < found.first_us < 10_000_000
    assert found.peak_memory_bytes > 10_000_000  # Python and NumPy alone need that
    assert found.model_memory_bytes < found.peak_memory_bytes


def test_a_crash_is_told_not_shared(model, python):
    python("kill -SEGV $$")
    with pytest.raises(EdgecifarError, match=r"int8\.tflite: it crashes litert \(SIGSEGV\)"):
        probe.probe(model, "litert")


def test_want_of_memory_is_named(model, python):
    python("kill -KILL $$")  # as the kernel does when memory runs out
    with pytest.raises(EdgecifarError, match=r"int8\.tflite: .* memory: close other programs"):
        probe.probe(model, "litert")


def test_a_hang_ends(model, python, monkeypatch):
    python("exec sleep 60")
    monkeypatch.setattr(probe, "_TIMEOUT", 0.2)
    with pytest.raises(EdgecifarError, match="it hangs in litert"):
        probe.probe(model, "litert")


def test_only_the_first_opening_starts_a_child(model, python):
    probe.check_once(model, "litert")
    python("exit 1")
    probe.check_once(model, "litert")
    with pytest.raises(EdgecifarError, match="no reason given"):
        probe.check_once(model, "tensorflow")


def test_damage_that_the_quick_check_passes_is_met_in_the_child(bare, tmp_path, monkeypatch):
    """The parent must not load such a file itself; what the child says is the error."""
    payload = (bare / "float32.tflite").read_bytes()
    path = tmp_path / "damaged.tflite"
    monkeypatch.setattr(probe, "_checked", set())
    monkeypatch.setattr(interpreters, "open_unchecked", _must_not_be_called)
    for position in range(64, len(payload)):
        damaged = payload[:position] + bytes([payload[position] ^ 0xFF]) + payload[position + 1 :]
        path.write_bytes(damaged)
        try:
            model = modelfile.read(path)
        except EdgecifarError:
            continue
        if fails_in_the_child(model):
            return
    pytest.fail("no byte was found that only the interpreter objects to")


def _must_not_be_called(*_, **__):
    raise AssertionError("the parent opened the damaged file")


def fails_in_the_child(model):
    try:
        interpreters.open_model(model)
    except EdgecifarError as error:
        return str(model.path) in str(error)
    except AssertionError:  # the child found nothing, so the parent may go on
        return False
    return False
