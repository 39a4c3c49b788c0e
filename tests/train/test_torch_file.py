"""PyTorch's legacy format, written here byte by byte since PyTorch is not installed."""

import collections
import os
import pickle
import struct
import sys
import types

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.torch_file import read_tensors

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Tensor:
    def __init__(self, key, kind, count, offset, shape, strides):
        self.storage = types.SimpleNamespace(key=key, kind=kind, count=count)
        self.rest = (offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, *self.rest)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, types.SimpleNamespace):
            kind = getattr(sys.modules["torch"], obj.kind)
            return ("storage", kind, obj.key, "cpu", obj.count, None)
        return None


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """Modules by whose names the pickles refer to PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def rebuild():
        raise AssertionError("the reader must not call this")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def write(path, tensors, storages, *, magic=MAGIC):
    with path.open("wb") as file:
        for part in (magic, PROTOCOL, {"little_endian": True}, tensors, list(storages)):
            Pickler(file, protocol=2).dump(part)
        for values in storages.values():
            file.write(struct.pack("<q", len(values)) + values.tobytes())


@pytest.fixture
def storages():
    return {"7": np.arange(6, dtype="<f4"), "8": np.array([41, 42], "<i8")}


def test_tensors_come_with_their_strides_and_offsets(tmp_path, storages):
    tensors = collections.OrderedDict(
        plain=Tensor("7", "FloatStorage", 6, 0, (2, 3), (3, 1)),
        transposed=Tensor("7", "FloatStorage", 6, 0, (3, 2), (1, 3)),
        scalar=Tensor("8", "LongStorage", 2, 1, (), ()),
    )
    write(tmp_path / "state.pth", tensors, storages)
    read = read_tensors(tmp_path / "state.pth")
    assert list(read) == ["plain", "transposed", "scalar"]
    np.testing.assert_array_equal(read["plain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["transposed"], read["plain"].T)
    assert read["scalar"] == 42


def test_a_pickle_can_call_nothing_else(tmp_path, storages):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    write(tmp_path / "state.pth", {"x": Hostile()}, storages)
    with pytest.raises(EdgecifarError, match=r"it names posix\.mkdir"):
        read_tensors(tmp_path / "state.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("offset", "strides"), [(1, (3, 1)), (0, (4, 1)), (-1, (3, 1)), (0, (-3, 1))]
)
def test_no_tensor_reaches_beyond_its_storage(tmp_path, storages, offset, strides):
    tensors = {"x": Tensor("7", "FloatStorage", 6, offset, (2, 3), strides)}
    write(tmp_path / "state.pth", tensors, {"7": storages["7"]})
    with pytest.raises(EdgecifarError, match="beyond its storage"):
        read_tensors(tmp_path / "state.pth")


def test_a_file_cut_short(tmp_path, storages):
    path = tmp_path / "state.pth"
    write(path, {"x": Tensor("8", "LongStorage", 2, 0, (2,), (1,))}, {"8": storages["8"]})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EdgecifarError, match="cut short"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x02K\x01."])
def test_other_files(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(EdgecifarError, match=r"x\.pth is not a plain PyTorch state dict"):
        read_tensors(tmp_path / "x.pth")
    with pytest.raises(EdgecifarError, match=r"no\.pth can't be read: No such file"):
        read_tensors(tmp_path / "no.pth")
