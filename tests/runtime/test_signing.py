import os
import stat
import sys
from pathlib import Path

import pytest

from edgecifar.runtime import modelfile, signing
from edgecifar.runtime.errors import EdgecifarError

FILES = ("int8.tflite", "float32.onnx")
pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A private key and its public one."""
    private = tmp_path_factory.mktemp("keys") / "maker.pem"
    return private, signing.make_key(private)


@pytest.fixture(params=FILES)
def path(request, described, keys):
    path = described / request.param
    signing.sign(path, keys[0])
    return path


def test_a_signature_is_valid_and_changes_nothing_else(bare, path, keys):
    model = modelfile.read(path)
    assert signing.check(model, keys[1]) == model.metadata["signature"]["key"]
    assert model.payload == (bare / path.name).read_bytes()
    assert model.labels == ("ant", "bee", "cow", "dog")
    assert model.metadata["architecture"] == "tiny"


def test_nobody_else_reads_the_private_key(keys):
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert public.name == "maker.pub.pem"
    assert b"PRIVATE" not in public.read_bytes()


def test_another_key(path, tmp_path):
    other = signing.make_key(tmp_path / "other.pem")
    with pytest.raises(EdgecifarError, match=r"wasn't made with .*its key is [0-9a-f]{16}"):
        signing.check(modelfile.read(path), other)


@pytest.mark.parametrize("what", ["payload", "metadata", "signature"])
def test_a_forger_who_mends_the_checksums(path, keys, what):
    """Checksums tell damage; only the signature tells a forger, who can write checksums too."""
    model = modelfile.read(path)
    signature, metadata, payload = model.metadata["signature"], dict(model.metadata), model.payload
    if what == "payload":
        payload = payload[:-1] + bytes([payload[-1] ^ 1])
    elif what == "metadata":
        metadata["labels"] = ["dog", "bee", "cow", "ant"]
    else:
        signature = signature | {"value": signature["value"][::-1]}
    path.write_bytes(payload)
    try:
        modelfile.append(path, metadata, None)
    except EdgecifarError:
        pytest.skip("the last byte of this format isn't free")
    forged = modelfile.read(path)
    modelfile.attach_signature(forged, signature)
    assert modelfile.read(path).payload == payload
    with pytest.raises(EdgecifarError, match="doesn't fit the file"):
        signing.check(modelfile.read(path), keys[1])


def test_files_without_a_signature(described, bare, keys):
    with pytest.raises(EdgecifarError, match="isn't signed"):
        signing.check(modelfile.read(described / "int8.tflite"), keys[1])
    with pytest.raises(EdgecifarError, match="no description to sign"):
        signing.sign(bare / "int8.tflite", keys[0])


def test_a_new_description_needs_a_new_signature(path, keys):
    modelfile.append(path, {"name": "another"}, None)
    with pytest.raises(EdgecifarError, match="isn't signed"):
        signing.check(modelfile.read(path), keys[1])


def test_keys_that_are_none(path, keys, tmp_path):
    private, public = keys
    (tmp_path / "text.pem").write_text("no key")
    model = modelfile.read(path)
    for bad in (tmp_path / "text.pem", private):
        with pytest.raises(EdgecifarError, match="isn't a public key"):
            signing.check(model, bad)
    with pytest.raises(EdgecifarError, match="isn't a private key"):
        signing.sign(path, public)
    with pytest.raises(EdgecifarError, match="No such file"):
        signing.sign(path, tmp_path / "none.pem")


def test_keys_of_another_kind(path, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import x25519

    key = x25519.X25519PrivateKey.generate()
    (tmp_path / "x.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(EdgecifarError, match="isn't an Ed25519 key"):
        signing.sign(path, tmp_path / "x.pem")


def without_labels(path):
    """Take the labels out of the description, as a file of somebody else's tools may have it."""
    model = modelfile.read(path)
    metadata = {key: value for key, value in model.metadata.items() if key != "labels"}
    modelfile._write(path, model.kind, model.payload, metadata, model.labels)


def test_labels_are_signed_wherever_they_stand(described, keys):
    for name in FILES:
        path = described / name
        without_labels(path)
        assert modelfile.read(path).labels == ("ant", "bee", "cow", "dog")
        signing.sign(path, keys[0])
        assert modelfile.read(path).metadata["labels"] == ["ant", "bee", "cow", "dog"]
        signing.check(modelfile.read(path), keys[1])


def test_labels_that_a_forger_adds_are_refused(bare, tmp_path, keys):
    for name in FILES:
        path = tmp_path / name
        path.write_bytes((bare / name).read_bytes())
        modelfile.append(path, {"name": "tiny"}, None)
        signing.sign(path, keys[0])
        model = modelfile.read(path)
        assert model.labels is None
        signing.check(model, keys[1])
        modelfile._write(path, model.kind, model.payload, model.metadata, ("dog", "cow"))
        with pytest.raises(EdgecifarError, match="signature doesn't cover the labels"):
            modelfile.read(path)


def test_a_key_replaces_another_in_one_step(tmp_path, monkeypatch):
    """The new one is nobody else's from its first byte, the old one whole until then."""
    path = tmp_path / "maker.pem"
    path.write_text("the old key")
    path.chmod(0o644)
    modes = []

    def watched(source, target):
        modes.append((stat.S_IMODE(os.stat(source).st_mode), path.read_text()[:11]))
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", watched)
    signing.make_key(path, force=True)
    assert modes[0] == (0o600, "the old key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_a_key_is_not_overwritten(keys):
    before = keys[0].read_bytes()
    with pytest.raises(EdgecifarError, match="--force"):
        signing.make_key(keys[0])
    assert keys[0].read_bytes() == before


def test_without_cryptography(path, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(EdgecifarError, match=r"pip install cryptography"):
        signing.sign(path, keys[0])


def test_keys_that_differ_after_a_dot_are_two(tmp_path):
    names = [signing.make_key(tmp_path / name).name for name in ("maker.v1", "maker.v2", "a.pem")]
    assert names == ["maker.v1.pub.pem", "maker.v2.pub.pem", "a.pub.pem"]


def test_only_what_can_be_signed_is_named(keys, tmp_path):
    """A model that ships isn't signed by its name."""
    with pytest.raises(EdgecifarError, match=r"nano: no such model file: check the path$"):
        signing.sign(tmp_path / "nano", keys[0])


def test_a_folder_is_no_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path(), tmp_path):
        for force in (False, True):
            with pytest.raises(EdgecifarError, match="exists and is no file: give another name"):
                signing.make_key(path, force=force)
