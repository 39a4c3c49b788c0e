import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from edgecifar.runtime import modelfile, onnx_container, tflite_container
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import open_model

FILES = ("float32.tflite", "int8.tflite", "float32.onnx")


@pytest.mark.parametrize("name", FILES)
def test_description_is_read_back_and_the_model_is_unchanged(bare, described, name):
    before, after = modelfile.read(bare / name), modelfile.read(described / name)
    assert before.metadata is None
    assert before.labels is None
    assert after.payload == before.payload == (bare / name).read_bytes()
    assert after.labels == ("ant", "bee", "cow", "dog")
    assert after.metadata["payload_sha256"] == before.sha256
    assert after.metadata["payload_bytes"] == len(before.payload)
    assert after.metadata["schema"] == modelfile.SCHEMA
    assert after.name == f"tiny-{before.path.stem}"
    assert after.file_bytes == (described / name).stat().st_size > before.file_bytes


@pytest.mark.parametrize("name", FILES)
def test_a_new_description_replaces_the_old_one(described, name):
    path = described / name
    modelfile.append(path, {"created": "2026-01-01T00:00:00+00:00"}, ("a", "b", "c", "d"))
    first = path.read_bytes()
    modelfile.append(path, {"created": "2026-01-01T00:00:00+00:00"}, ("a", "b", "c", "d"))
    assert path.read_bytes() == first
    assert modelfile.read(path).labels == ("a", "b", "c", "d")
    assert "architecture" not in modelfile.read(path).metadata


def test_unaware_readers_read_described_files(described, images):
    onnx = pytest.importorskip("onnx")
    props = {p.key: p.value for p in onnx.load(described / "float32.onnx").metadata_props}
    assert props["author"] == "someone else"
    assert json.loads(props["edgecifar.json"])["architecture"] == "tiny"
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        model_path=str(described / "int8.tflite")
    )
    interpreter.allocate_tensors()
    with zipfile.ZipFile(described / "int8.tflite") as archive:
        assert archive.read("labels.txt") == b"ant\nbee\ncow\ndog\n"


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_byte_goes_unnoticed(described, name):
    path = described / name
    good = path.read_bytes()
    labels = modelfile.read(path).labels
    payload = len(modelfile.read(path).payload)
    rng = np.random.default_rng(1)
    for position in (*rng.integers(0, payload, 40), *range(payload, len(good), 7)):
        data = bytearray(good)
        data[position] ^= 0x41
        path.write_bytes(data)
        found, message = outcome(path)
        if found is None:
            assert "\n" not in message
            assert str(path) in message
        else:  # the byte was a date or the like in the zip's own records
            assert position >= payload
            assert found.payload == good[:payload]
            assert found.labels == labels


def outcome(path):
    """What reading gives: a model file or the message of an error."""
    try:
        return modelfile.read(path), None
    except EdgecifarError as error:
        return None, str(error)


@pytest.mark.parametrize("name", FILES)
def test_truncated_files_are_refused(described, name):
    path = described / name
    good = path.read_bytes()
    payload = len(modelfile.read(path).payload)
    for length in (1, 7, 8, 100, payload // 2, payload + 40, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(EdgecifarError, match=r"truncated|damaged|altered|neither"):
            modelfile.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"\n\n  <html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (bytes(1000), "neither"),
        (b"\x1c\0\0\0TFL3" + bytes(1000), "no graph|truncated or altered"),
        (b"\xff" * 4 + b"TFL3" + b"\xff" * 100, "truncated or altered"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, content, message):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(EdgecifarError, match=message):
        modelfile.read(path)


def test_a_keras_file_is_no_archive_to_unpack(tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(EdgecifarError, match="it is a Keras file: `edgecifar export FILE --int8`"):
        modelfile.read(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(EdgecifarError, match="no such model file"):
        modelfile.read(tmp_path / "missing.tflite")
    with pytest.raises(EdgecifarError, match="directory"):
        modelfile.read(tmp_path)


def rewrite(path, **changes):
    """Change the metadata of a file whose payload stays as it is."""
    payload, attachments = tflite_container.split(path.read_bytes())
    metadata = json.loads(attachments["edgecifar.json"]) | changes
    metadata["metadata_sha256"] = modelfile.metadata_sha256(metadata)
    attachments["edgecifar.json"] = json.dumps(metadata).encode()
    path.write_bytes(tflite_container.join(payload, attachments))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99, "minimum_runtime": "7.1"}, "needs edgecifar-runtime 7.1"),
        ({"schema": "1"}, "isn't ours"),
        ({"labels": ["x", "y", "z", "w"]}, "different classes"),
        ({"labels": [1, 2, 3, 4]}, "list of names"),
        ({"payload_sha256": "0" * 64}, "SHA-256"),
        ({"payload_sha256": None}, "SHA-256"),
        ({"input": "pixel-128"}, "input in its edgecifar.json"),
    ],
)
def test_metadata_that_cannot_be_trusted(described, changes, message):
    rewrite(described / "int8.tflite", **changes)
    with pytest.raises(EdgecifarError, match=message):
        modelfile.read(described / "int8.tflite")


@pytest.mark.parametrize("name", FILES)
def test_a_changed_digit_in_the_description_is_noticed(described, name):
    """Where no zip's checksum covers it: in ONNX, or by someone who writes the zip anew."""
    path = described / name
    container = onnx_container if name.endswith("onnx") else tflite_container
    model = modelfile.read(path)
    text = json.dumps(model.metadata)
    changed = text.replace('"payload_bytes": ', '"payload_bytes": 1')
    assert changed != text
    path.write_bytes(container.join(model.payload, {"edgecifar.json": changed.encode()}))
    with pytest.raises(EdgecifarError, match="isn't what was written"):
        modelfile.read(path)


def test_a_description_of_a_thousand_brackets(described):
    path = described / "int8.tflite"
    payload = modelfile.read(path).payload
    path.write_bytes(tflite_container.join(payload, {"edgecifar.json": b"[" * 100_000}))
    with pytest.raises(EdgecifarError, match="can't be read"):
        modelfile.read(path)


def test_unknown_metadata_is_kept_for_later_versions(described):
    rewrite(described / "int8.tflite", colour="green")
    assert modelfile.read(described / "int8.tflite").metadata["colour"] == "green"


@pytest.mark.parametrize("label", ["", "two\nlines", " padded"])
def test_labels_that_a_text_file_cannot_hold(described, label):
    with pytest.raises(EdgecifarError, match="rename the class"):
        modelfile.append(described / "int8.tflite", {}, ("a", label))


def test_labels_of_foreign_files_are_found(bare, tmp_path):
    path = tmp_path / "foreign.tflite"
    payload = (bare / "int8.tflite").read_bytes()
    path.write_bytes(tflite_container.join(payload, {"labelmap.txt": b"one\r\ntwo\r\n"}))
    assert modelfile.read(path).labels == ("one", "two")
    assert not modelfile.read(path).has_checksum


def zipped(payload, entries, method=zipfile.ZIP_DEFLATED):
    """A .tflite with an archive of these entries, as others write them."""
    stream = io.BytesIO(payload)
    with zipfile.ZipFile(stream, "a", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_compressed_labels_that_are_damaged(bare, tmp_path):
    path, payload = tmp_path / "foreign.tflite", (bare / "int8.tflite").read_bytes()
    good = zipped(payload, {"labels.txt": "".join(f"class {row}\n" for row in range(99))})
    path.write_bytes(good)
    assert len(modelfile.read(path).labels) == 99
    start = good.index(b"labels.txt", len(payload)) + len("labels.txt")
    for position in range(start, start + 40):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        with pytest.raises(EdgecifarError, match="archive appended to it is damaged"):
            modelfile.read(path)


def test_only_attachments_with_our_names_are_read(bare, tmp_path):
    path, payload = tmp_path / "foreign.tflite", (bare / "int8.tflite").read_bytes()
    large = bytes(17 << 20)
    path.write_bytes(zipped(payload, {"vocabulary.bin": large, "labels.txt": "one\ntwo\n"}))
    model = modelfile.read(path)
    assert model.labels == ("one", "two")
    assert model.payload == payload
    path.write_bytes(zipped(payload, {"labels.txt": large}))
    with pytest.raises(EdgecifarError, match="larger than 16 MiB"):
        modelfile.read(path)
    path.write_bytes(zipped(payload, {f"label{row}.txt": "one" for row in range(100)}))
    with pytest.raises(EdgecifarError, match="more than 8 attachments"):
        modelfile.read(path)


def test_a_bomb_that_lies_about_its_size(bare, tmp_path):
    path, payload = tmp_path / "bomb.tflite", (bare / "int8.tflite").read_bytes()
    size = 64 << 20
    data = zipped(payload, {"labels.txt": bytes(size)})
    path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", 100)))
    tracemalloc.start()
    try:
        with pytest.raises(EdgecifarError, match="damaged"):
            modelfile.read(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_all_at_once_are_refused(bare, tmp_path, method):
    path, payload = tmp_path / "foreign.tflite", (bare / "int8.tflite").read_bytes()
    path.write_bytes(zipped(payload, {"labels.txt": "one\ntwo\n"}, method))
    with pytest.raises(EdgecifarError, match="neither stored nor deflated"):
        modelfile.read(path)


def test_a_failed_write_leaves_the_file_as_it_was(described, monkeypatch):
    path = described / "int8.tflite"
    before, beside = path.read_bytes(), set(path.parent.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        modelfile.append(path, {"name": "new"}, None)
    assert path.read_bytes() == before
    assert set(path.parent.iterdir()) == beside


def test_described_onnx_runs_as_before(bare, described, images):
    pytest.importorskip("onnxruntime")
    pixels = images[:1].astype(np.float32)
    results = [
        open_model(modelfile.read(folder / "float32.onnx")).run(pixels)
        for folder in (bare, described)
    ]
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", FILES)
def test_containers_meet_any_bytes_with_value_errors(bare, name):
    good = (bare / name).read_bytes()
    container = onnx_container if name.endswith("onnx") else tflite_container
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        data = np.frombuffer(good, np.uint8).copy()
        data[rng.integers(0, min(len(data), 600), 8)] = rng.integers(0, 256, 8)
        try:
            container.check(data.tobytes())
        except ValueError:
            refused += 1
    assert refused > 10
    container.check(good)


def test_offsets_beyond_the_addresses_of_a_32_bit_system(bare, tmp_path, monkeypatch):
    """There struct doesn't look whether the bytes end before them. tests/arm tries it for real."""

    def unpack_from(layout, data, offset=0):
        if offset >= 1 << 31:
            raise OverflowError("Python int too large to convert to C ssize_t")
        return struct.unpack_from(layout, data, offset)

    payload, path = (bare / "int8.tflite").read_bytes(), tmp_path / "int8.tflite"
    limited = SimpleNamespace(unpack_from=unpack_from, error=struct.error)
    monkeypatch.setattr(tflite_container, "struct", limited)
    for offset in (b"\0\0\0\x80", b"\xf0\xff\xff\xff"):
        path.write_bytes(offset + payload[4:])
        with pytest.raises(EdgecifarError, match="truncated or altered"):
            modelfile.read(path)
        with pytest.raises(ValueError, match="altered"):
            tflite_container.least_tensorflow(path.read_bytes())


def test_an_archive_that_points_beyond_all_addresses(bare, tmp_path):
    """By the 64-bit fields that large archives have."""
    payload, path = (bare / "int8.tflite").read_bytes(), tmp_path / "int8.tflite"
    name, body = b"labels.txt", b"one\ntwo\n"
    about = struct.pack("<IIIHH", zlib.crc32(body), len(body), len(body), len(name), 0)
    far = struct.pack("<HHQ", 1, 8, 1 << 63)
    entry = b"PK\3\4" + struct.pack("<5H", 20, 0, 0, 0, 33) + about + name + body
    about = about[:-2] + struct.pack("<4HII", len(far), 0, 0, 0, 0, 0xFFFFFFFF) + name + far
    listed = b"PK\1\2" + struct.pack("<6H", 45, 45, 0, 0, 0, 33) + about
    end = b"PK\5\6" + struct.pack("<4HIIH", 0, 0, 1, 1, len(listed), len(entry), 0)
    path.write_bytes(payload + entry + listed + end)
    with pytest.raises(EdgecifarError, match="archive appended to it is damaged"):
        modelfile.read(path)


def test_a_file_of_zeros_is_soon_refused(tmp_path):
    path = tmp_path / "copied.onnx"
    path.write_bytes(bytes(4 << 20))  # what an interrupted copy may leave
    tracemalloc.start()
    with pytest.raises(EdgecifarError, match="it isn't an ONNX model"):
        modelfile.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_little_is_read_of_what_is_no_model(tmp_path):
    path = tmp_path / "disk.img"
    with path.open("wb") as stream:
        stream.truncate(64 << 30)  # which takes no room, but in memory
    with pytest.raises(EdgecifarError, match="neither a TensorFlow Lite nor an ONNX model"):
        modelfile.read(path)
    with pytest.raises(EdgecifarError, match="larger than 2 GiB"):
        modelfile.read(path.rename(tmp_path / "disk.onnx"))


@pytest.mark.parametrize("where", ["initializer", "node of a branch"])
def test_weights_in_another_file_are_refused(bare, tmp_path, where):
    """No checksum covers them, and they would be read from the working folder."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bare / "float32.onnx")
    if where != "initializer":
        held = onnx.helper.make_tensor("location", onnx.TensorProto.FLOAT, [4], [1.0] * 4)
        constant = onnx.helper.make_node("Constant", [], ["held"], value=held)
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["a"], ["b"], then_branch=branch))
    path = tmp_path / "outside.onnx"
    onnx.save(model, path)
    modelfile.read(path)
    if where == "initializer":
        onnx.save(model, path, save_as_external_data=True, size_threshold=0)
    else:
        tensor = model.graph.node[-1].attribute[0].g.node[0].attribute[0].t
        tensor.data_location = onnx.TensorProto.EXTERNAL
        onnx.save(model, path)
    with pytest.raises(EdgecifarError, match=r"weights lie in another file, .*external_data=False"):
        modelfile.read(path)
