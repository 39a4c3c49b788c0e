import os
import subprocess
import sys

import numpy as np
import pytest

from edgecifar.benchmarks.devices import rootfs
from edgecifar.benchmarks.devices.emulated import BOARDS, EmulatedDevice
from edgecifar.benchmarks.devices.fleet import bench_on, device
from edgecifar.benchmarks.devices.transport import UnreachableError
from edgecifar.runtime import environment, modelfile, shipped
from edgecifar.runtime.benchmark import Settings, bench
from edgecifar.runtime.errors import EdgecifarError


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_known_by_its_cpuinfo(board, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(BOARDS[board].cpuinfo)
    assert environment.cpu_model(tmp_path).lower() == BOARDS[board].cpu
    assert "neon" in environment.cpu_features(tmp_path)
    assert ("dot product" in environment.cpu_features(tmp_path)) == (board == "pi5")


def test_names_of_devices():
    assert isinstance(device("emulated:pi4"), EmulatedDevice)
    for spec, message in (
        ("emulated:pi9", "take one of pi5"),
        ("usb:1", "no such device"),
        ("local:x", "take local, or local:without-amx"),
    ):
        with pytest.raises(EdgecifarError, match=message):
            device(spec)


def test_the_mirror_is_apts(tmp_path, monkeypatch):
    with pytest.raises(EdgecifarError, match="set EDGECIFAR_DEBIAN_MIRROR"):
        rootfs.mirror(tmp_path)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/d.sources").write_text(
        "Types: deb\nURIs: http://m.example/debian-security\n\nURIs: http://m.example/debian\n"
    )
    assert rootfs.mirror(tmp_path) == "http://m.example/debian"
    (tmp_path / "sources.list").write_text(
        "deb [arch=amd64] http://n.example/debian/ bookworm main\n"
    )
    assert rootfs.mirror(tmp_path) == "http://n.example/debian/"
    monkeypatch.setenv("EDGECIFAR_DEBIAN_MIRROR", "http://mine.example/debian")
    assert rootfs.mirror(tmp_path) == "http://mine.example/debian"


def test_tools_are_found_where_root_alone_would_look(tmp_path, monkeypatch):
    """debootstrap lies in /usr/sbin."""
    tool = tmp_path / "debootstrap"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(rootfs, "_SBIN", (str(tmp_path),))
    rootfs._require_tools("debootstrap")
    with pytest.raises(EdgecifarError, match=r"debootstrap failed .*\(no reason given\)"):
        rootfs._call(["debootstrap"])


def test_missing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECIFAR_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(rootfs, "_SBIN", ())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(EdgecifarError, match="apt-get install debootstrap dpkg qemu-user-static`"):
        rootfs.prepare(rootfs.ARM64)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EdgecifarError, match=r"dpkg and fakeroot: .* dpkg fakeroot qemu-user"):
        rootfs.prepare(rootfs.ARM64)
    assert not (tmp_path / "rootfs").exists()
    (tmp_path / "rootfs/bookworm-arm64").mkdir(parents=True)
    with pytest.raises(EdgecifarError, match="needs qemu-aarch64-static: `apt-get install qemu-u"):
        rootfs.prepare(rootfs.ARM64)


@pytest.mark.slow
def test_a_failed_download_leaves_nothing(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("debootstrap", "dpkg", "qemu-aarch64-static"):
        (tools / name).write_text("#!/bin/sh\necho 'E: no such mirror' >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    monkeypatch.setenv("EDGECIFAR_CACHE", str(tmp_path))
    with pytest.raises(EdgecifarError, match="no such mirror"):
        rootfs.prepare(rootfs.ARM64)
    assert list((tmp_path / "rootfs").iterdir()) == []


def test_a_mirror_that_does_not_answer_is_told_from_one_without_the_file(tmp_path):
    """debootstrap writes the reason to its log, and only that it failed to the terminal."""
    log, fails = tmp_path / "log", [sys.executable, "-c", "exit('E: Failed getting release file')"]
    with pytest.raises(EdgecifarError, match="Failed getting release file") as caught:
        rootfs._call(fails, log=log)
    assert not isinstance(caught.value, UnreachableError)
    log.write_text("wget: unable to resolve host address 'm.example'\n")
    with pytest.raises(UnreachableError, match=r"unable to resolve host address 'm\.example'"):
        rootfs._call(fails, log=log)


@pytest.fixture
def prepare(tmp_path):
    """Start a process that prepares a board whose download takes a second; it prints the root."""
    code = """
import time
from edgecifar.benchmarks.devices import rootfs
def download(architecture, root):
    root.mkdir()
    (root / "file").write_text("")
    print("downloading", flush=True)
    time.sleep(1)
rootfs._debian = download
rootfs._require_tools = rootfs._wheels = lambda *_: None
print(rootfs.prepare(rootfs.ARM64))
"""

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"EDGECIFAR_CACHE": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def test_processes_that_share_a_cache_download_once(prepare, tmp_path):
    told = [process.communicate() for process in [prepare() for _ in range(2)]]
    root = tmp_path / "rootfs/bookworm-arm64"
    assert sorted(out for out, _ in told) == [f"{root}\n", f"downloading\n{root}\n"], told
    assert list(root.parent.iterdir()) == [root]


def test_what_a_killed_download_left_goes_with_the_next(prepare, tmp_path):
    process = prepare()
    assert process.stdout.readline() == "downloading\n"
    process.kill()
    process.communicate()
    assert [path.name.partition("-")[0] for path in (tmp_path / "rootfs").iterdir()] == [".partial"]
    prepare().communicate()
    assert [path.name for path in (tmp_path / "rootfs").iterdir()] == ["bookworm-arm64"]


@pytest.mark.slow
def test_an_emulated_pi_answers_as_this_machine_does(python_of, rootfs_cache, tmp_path):
    python_of("pi4")  # or it is skipped
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    files = [shipped.locate("nano")]
    data, classes = tmp_path / "d.npz", modelfile.read(files[0]).labels
    np.savez(data, images=images, labels=np.arange(20) % 10, classes=classes, split="test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECIFAR_CACHE", rootfs_cache)
        outcome = bench_on(["emulated:pi4"], files, None, data=data, settings=Settings())[0]
    assert outcome.errors == []
    there, here = outcome.result, bench(files, data=data, settings=Settings(timed=False))
    assert there["environment"]["board"] == "Raspberry Pi 4 (emulated)"
    assert there["environment"]["cpu"] == "Cortex-A72"
    row = there["models"][0]
    assert row["latency_us"] is row["load_ms"] is row["first_us"] is None
    assert row["accuracy"] == here["models"][0]["accuracy"]
