import errno
import os

import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder, refuse_existing, replace_file, try_lock


def test_the_cache_lies_in_the_users_home_or_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGECIFAR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "edgecifar"
    monkeypatch.setenv("EDGECIFAR_CACHE", "~/elsewhere")
    assert cache_folder() == tmp_path / "elsewhere"


def test_replaces_in_one_step_and_keeps_permissions(tmp_path):
    path = tmp_path / "result.json"
    replace_file(path, b"one")
    path.chmod(0o640)
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_new_files_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        replace_file(tmp_path / "new", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_missing_folder_and_existing_file(tmp_path):
    with pytest.raises(EdgecifarError, match="no such folder"):
        replace_file(tmp_path / "none" / "file", b"")
    path = tmp_path / "file"
    refuse_existing(path, force=False)
    path.touch()
    refuse_existing(path, force=True)
    with pytest.raises(EdgecifarError, match="--force"):
        refuse_existing(path, force=False)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(EdgecifarError, match="exists and is no file: give another name"):
            refuse_existing(other, force=True)


def test_a_link_stays_one(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to("target")
    replace_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_where_nothing_can_be_locked_nobody_is_locked_out(monkeypatch, tmp_path):
    import fcntl

    def flock(stream, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (tmp_path / "lock").open("w") as stream:
        number = errno.ENOSYS
        assert try_lock(stream)
        number = errno.EIO
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            try_lock(stream)
