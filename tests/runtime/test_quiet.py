import os

import pytest

from edgecifar.runtime.quiet import quiet_stderr


def test_only_information_is_held_back(capfd):
    with quiet_stderr():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: broken\n")
        os.write(2, b"a line of another kind\n")
    assert capfd.readouterr().err == "ERROR: broken\na line of another kind\n"
    os.write(2, b"INFO: afterwards\n")
    assert capfd.readouterr().err == "INFO: afterwards\n"


def test_errors_pass_and_nesting_works(capfd):
    def fail():
        with quiet_stderr(), quiet_stderr():
            os.write(2, b"WARNING: last words\n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == "WARNING: last words\n"


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        with quiet_stderr():
            pass
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_lines_of_the_program_itself_pass(capfd):
    with quiet_stderr():
        os.write(2, b"INFO:root:ready\nINFO: 12 requests\n")
    assert capfd.readouterr().err == "INFO:root:ready\nINFO: 12 requests\n"


def test_without_any_place_for_a_file_nothing_is_held_back(capfd, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgecifar.runtime.quiet._nameless_file", full)
    with quiet_stderr():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
    assert "XNNPACK" in capfd.readouterr().err


def test_no_folder_need_be_writable(monkeypatch, capfd):
    if not hasattr(os, "memfd_create"):
        pytest.skip("files in memory are Linux's")
    monkeypatch.setattr("edgecifar.runtime.quiet.tempfile", None)
    with quiet_stderr():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
    assert capfd.readouterr().err == ""
