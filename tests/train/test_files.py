import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import files
from edgecifar.train.files import (
    alone_in,
    discard,
    read_json,
    write_array,
    write_json,
    write_rows,
    write_whole,
)


def test_an_array_is_written_as_numpy_reads_it(tmp_path):
    array = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    write_array(tmp_path / "array.npy", array)
    found = np.load(tmp_path / "array.npy")
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, array)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's disk that is always full")
def test_an_array_for_which_the_disk_has_no_room_is_said_to_be_so():
    with pytest.raises(OSError, match="No space left") as caught:
        write_array(Path("/dev/full"), np.zeros(100_000))
    assert caught.value.errno == errno.ENOSPC  # which `np.save` does not tell


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "figures.json"
    write_json(path, {"top1": 1})

    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert read_json(path) == {"top1": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_an_older_one(tmp_path):
    for text in ("old", "new"):

        def fill(partial, text=text):
            partial.mkdir()
            (partial / text).write_text(text)

        write_whole(tmp_path / "state", fill)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["new"]


def test_one_process_at_a_time_works_in_a_folder(tmp_path):
    with alone_in(tmp_path / "run"):
        other = "import sys, pathlib; from edgecifar.train.files import alone_in\n"
        other += "with alone_in(pathlib.Path(sys.argv[1])): pass"
        command = [sys.executable, "-c", other, str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"another process is at work in {tmp_path / 'run'}: wait" in done.stderr
    with alone_in(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_lock_that_its_holder_removes_is_not_taken_for_one(tmp_path, monkeypatch):
    """Between opening and locking it: whoever comes next makes a file of its own."""
    try_lock, ended = files.try_lock, []

    def late(stream):
        if not ended:
            ended.append(True)
            (tmp_path / ".lock").unlink()
        return try_lock(stream)

    monkeypatch.setattr(files, "try_lock", late)
    with (
        alone_in(tmp_path),
        pytest.raises(EdgecifarError, match="another process is at work"),
        alone_in(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_rows_become_csv(tmp_path):
    write_rows(tmp_path / "history.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n1,0.5\n2,0.25\n"


def test_broken_json_is_named(tmp_path):
    path = tmp_path / "run.json"
    with pytest.raises(EdgecifarError, match=r"run\.json is missing"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(EdgecifarError, match=r"run\.json is not valid JSON"):
        read_json(path)


def test_a_linked_folder_is_emptied_and_stays_linked(tmp_path):
    behind, link = tmp_path / "disk" / "run", tmp_path / "run"
    behind.mkdir(parents=True)
    (behind / "old").touch()
    link.symlink_to(behind)
    discard(link)
    assert link.is_symlink()
    assert [*link.iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "run"]
