import json

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.checks import instructions
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.shipped import default_model

COUNTS = {"pi4": 4_400_000.4, "pi5": 1_300_000.0}


def test_a_killed_count_goes_on_where_it_stood(tmp_path, monkeypatch):
    model, out = default_model(), tmp_path / "counts.json"
    command = [str(model), "--json", str(out)]
    counted = []

    def count(path, board):
        counted.append(board)
        if counted == ["pi4", "pi5"]:
            raise EdgecifarError("the power failed")
        return COUNTS[board]

    monkeypatch.setattr(instructions, "count", count)
    torn = CliRunner().invoke(instructions.main, command)
    assert torn.exit_code == 1
    assert "the power failed" in torn.output
    assert not out.exists()
    whole = CliRunner().invoke(instructions.main, command)
    assert whole.exit_code == 0, whole.output
    assert counted == ["pi4", "pi5", "pi5"]
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]  # and no journal
    (found,) = results.read(out, kind=instructions.KIND)["models"]
    assert found["instructions"] == {"pi4": 4_400_000, "pi5": 1_300_000}
    again = CliRunner().invoke(instructions.main, command)
    assert again.exit_code == 1
    assert "--force" in again.output
    assert counted == ["pi4", "pi5", "pi5"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("qemu-aarch64 version 9.0.2 (Debian)", "not qemu-aarch64 version 9.0.2 (Debian): Debian"),
        ("nonsense", "not nonsense"),
        ("", "not an unknown version"),
    ],
)
def test_an_emulator_of_another_kind_is_named(said, error, tmp_path):
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\necho '{said}'\n")
    qemu.chmod(0o755)
    with pytest.raises(EdgecifarError) as caught:
        instructions._require_plugins(str(qemu))
    assert error in str(caught.value)
    qemu.write_text("#!/bin/sh\necho 'qemu-aarch64 version 7.2.22 (Debian 1:7.2)'\n")
    instructions._require_plugins(str(qemu))


def test_a_place_that_can_t_be_written_is_one_line(monkeypatch):
    monkeypatch.setattr(instructions, "count", lambda path, board: COUNTS[board])
    done = CliRunner().invoke(instructions.main, [str(default_model()), "--json", "/proc/x.json"])
    assert done.exit_code == 1
    assert "Error: No such file or directory (/proc/" in done.stderr


def test_an_altered_count_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(instructions, "count", lambda path, board: COUNTS[board])
    result = instructions.measure([default_model()], ["pi4"])
    result["models"][0]["instructions"]["pi4"] -= 1
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(result))
    with pytest.raises(EdgecifarError, match=r"counts\.json"):
        results.read(path, kind=instructions.KIND)
