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


def test_an_altered_count_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(instructions, "count", lambda path, board: COUNTS[board])
    result = instructions.measure([default_model()], ["pi4"])
    result["models"][0]["instructions"]["pi4"] -= 1
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(result))
    with pytest.raises(EdgecifarError, match=r"counts\.json"):
        results.read(path, kind=instructions.KIND)
