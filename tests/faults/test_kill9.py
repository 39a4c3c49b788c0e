import importlib.util
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecifar.runtime import shipped
from edgecifar.runtime.commands import main

_spec = importlib.util.spec_from_file_location("kill9", Path(__file__).parent / "kill9.py")
kill9 = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kill9)


def test_a_torn_file_is_found(described_run):
    """Or 50 of 50 would say nothing."""
    assert kill9.torn_files(described_run) == []
    for path in sorted(described_run.rglob("*")):
        if path.is_file():
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            assert [path.name in text for text in kill9.torn_files(described_run)] == [True], path
            path.write_bytes(whole)


@pytest.fixture
def described_run(digits_run, tmp_path):
    """A copy of a finished run with an int8 file."""
    copy = shutil.copytree(digits_run.path, tmp_path / "run")
    (copy / "exports").mkdir()
    shutil.copy(shipped.locate("nano"), copy / "exports")
    return copy


@pytest.mark.slow
def test_a_kill_at_work_leaves_no_half_file(tmp_path):
    """One kill a stage, and then its end; the test below makes more, at any moment."""
    for stage in kill9.stages(tmp_path, "edge-8-s16"):
        kill9.kill_at_work(stage)
        assert not (stage.folder / stage.result).exists()
        assert kill9.torn_files(tmp_path) == []
        finished = CliRunner().invoke(main, stage.arguments)
        assert finished.exit_code == 0, finished.output
        assert (stage.folder / stage.result).exists()
        assert kill9.torn_files(tmp_path) == []


@pytest.mark.long
def test_kills_leave_no_half_file(tmp_path):
    tally = kill9.torture(tmp_path, count=3)
    assert tally.torn == []
    assert tally.killed == 3
