import os
import shutil

import pytest

from edgecifar.benchmarks.devices import rootfs
from edgecifar.benchmarks.devices.emulated import BOARDS, EmulatedDevice
from edgecifar.benchmarks.devices.fleet import bench_on, device
from edgecifar.runtime import environment
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
        ("local:x", "takes no address"),
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


def test_missing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECIFAR_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EdgecifarError, match="apt-get install debootstrap qemu-user-static"):
        rootfs.prepare(rootfs.ARM64)
    assert not (tmp_path / "rootfs").exists()


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


@pytest.mark.slow
def test_an_emulated_pi_answers_as_this_machine_does(peers, tmp_path):
    """The downloads are kept in EDGECIFAR_TEST_ROOTFS, if that is set."""
    for tool in ("debootstrap", "qemu-aarch64-static"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} isn't installed")
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    names = [f"class {index}" for index in range(10)]
    data = tmp_path / "d.npz"
    np.savez(data, images=images, labels=np.arange(20) % 10, classes=names, split="test")
    files = [peers / "pretrainedResnet_quant.tflite"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECIFAR_CACHE", os.environ.get("EDGECIFAR_TEST_ROOTFS", str(tmp_path)))
        outcome = bench_on(["emulated:pi4"], files, None, data=data, settings=Settings())[0]
    assert outcome.errors == []
    there, here = outcome.result, bench(files, data=data, settings=Settings(timed=False))
    assert there["environment"]["board"] == "Raspberry Pi 4 (emulated)"
    assert there["environment"]["cpu"] == "Cortex-A72"
    row = there["models"][0]
    assert row["latency_us"] is row["load_ms"] is row["first_us"] is None
    assert row["accuracy"] == here["models"][0]["accuracy"]
