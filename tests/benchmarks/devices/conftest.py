"""A real sshd on the loopback interface, with throw-away keys and its own configuration."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

_SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
SIZE = 8


@dataclass
class Sshd:
    """A server, and the client's configuration that reaches it as `ssh://device`."""

    folder: Path
    port: int
    options: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def cache(self):
        return self.folder / "cache" / "edgecifar" / "device"

    def start(self, **options):
        """Start, or start again with other options."""
        self.stop()
        told = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized",
            "PidFile": self.folder / "sshd.pid",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "UsePAM": "no",
            "StrictModes": "no",
            "PermitRootLogin": "prohibit-password",
            "SetEnv": f"XDG_CACHE_HOME={self.folder / 'cache'}",
        } | options
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in told.items()))
        for _ in range(100):
            # A child of the one before may hold the port for a moment, which ends the next one.
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [_SSHD, "-D", "-e", "-f", config], stderr=(self.folder / "log").open("wb")
                )
            if self._greets() and self.process.poll() is None:
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def _greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def stop(self):
        """Stop listening; connections that stand go on."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def new_host_key(self):
        """Become another host, as a device does that was set up anew."""
        (self.folder / "host_key").unlink()
        _make_key(self.folder / "host_key")
        self.start()

    def sessions(self):
        """Process ids of the connections' servers, which are children of the one that listens."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.parent.name)] = int(fields[1])
        found = [self.process.pid] if self.process else []
        for process in found:
            found += [child for child, parent in parents.items() if parent == process]
        return [process for process in found[1:] if _is_sshd(process)]

    def drop(self, *, stay_away=False):
        """Cut all connections, as a failing network does."""
        sessions = self.sessions()
        if stay_away:
            self.stop()
        for process in sessions:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _is_sshd(process):
    try:
        return Path(f"/proc/{process}/comm").read_text().startswith("sshd")
    except OSError:
        return False


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    """A running server whose client configuration is in force."""
    if not _SSHD or not shutil.which("ssh"):
        pytest.skip("OpenSSH's server isn't installed (apt-get install openssh-server)")
    folder = tmp_path / "sshd"
    folder.mkdir()
    if os.geteuid() == 0:  # sshd separates privileges there
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "user_key"):
        _make_key(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _write_client_config(folder, port)
    monkeypatch.setenv("EDGECIFAR_SSH_CONFIG", str(folder / "ssh_config"))
    server = Sshd(folder, port)
    server.start()
    yield server
    server.drop(stay_away=True)


def _make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _write_client_config(folder, port):
    host_key = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    (folder / "ssh_config").write_text(
        f"Host device\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder / 'user_key'}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
        "Host *\n  LogLevel ERROR\n"
    )


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Two ONNX files that differ in their weights, made without TensorFlow."""
    pytest.importorskip("onnx")
    from edgecifar.runtime import modelfile

    folder = tmp_path_factory.mktemp("tiny")
    for seed, name in enumerate(("first", "second")):
        path = folder / f"{name}.onnx"
        path.write_bytes(_onnx(seed))
        modelfile.append(path, {"name": name}, ("ant", "bee", "cow"))
    return folder / "first.onnx", folder / "second.onnx"


def _onnx(seed):
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.01, (SIZE * SIZE * 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    shape = ["n", SIZE, SIZE, 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """48 images of three classes, as `edgecifar data pack` writes them."""
    path = tmp_path_factory.mktemp("data") / "insects.npz"
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (48, SIZE, SIZE, 3), np.uint8)
    labels = np.arange(48) % 3
    np.savez(
        path,
        images=images,
        labels=labels,
        classes=("ant", "bee", "cow"),
        split="test",
        name="insects",
    )
    return path
