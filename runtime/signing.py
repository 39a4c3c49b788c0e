"""Ed25519 signatures of model files: who made a file, where a checksum only tells that it's whole.

The signature is made over both checksums, of the payload and of the description, so that it
covers every byte that matters. Keys are PEM files, as `openssl genpkey -algorithm ed25519` makes
them too. https://www.rfc-editor.org/rfc/rfc8032
"""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecifar.runtime import modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import refuse_existing, replace_file
from edgecifar.runtime.modelfile import ModelFile

_PURPOSE = "edgecifar model 1"  # a signature made for something else can't be reused here


def make_key(path: Path, *, force: bool = False) -> Path:
    """Write a new private key to ``path`` and return the path of its public one beside it."""
    serialization, ed25519 = _cryptography()
    refuse_existing(path, force=force)
    public = path.with_name(f"{path.name.removesuffix('.pem')}.pub.pem")
    refuse_existing(public, force=force)
    key = ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    replace_file(path, private, mode=0o600)
    subject = serialization.PublicFormat.SubjectPublicKeyInfo
    replace_file(public, key.public_key().public_bytes(pem, subject))
    return public


def sign(path: Path, key: Path) -> str:
    """Sign the model file at ``path`` with the private key; return the public key's fingerprint.

    Raises:
        EdgecifarError: the file has no description, or ``key`` isn't an Ed25519 private key.

    """
    serialization, ed25519 = _cryptography()
    model = modelfile.read(path)
    if model.metadata is None:
        raise EdgecifarError(f"{path}: it has no description to sign: export it with edgecifar")
    private = _load(key, "private", lambda pem: serialization.load_pem_private_key(pem, None))
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise EdgecifarError(
            f"{key}: it isn't an Ed25519 key: `edgecifar sign --new-key` makes one"
        )
    model = _with_labels(model)
    value = base64.b64encode(private.sign(_message(model))).decode()
    fingerprint = _fingerprint(private.public_key(), serialization)
    modelfile.attach_signature(model, {"algorithm": "ed25519", "key": fingerprint, "value": value})
    return fingerprint


def check(model: ModelFile, key: Path) -> str:
    """Check the signature against a public key and return the key's fingerprint.

    Raises:
        EdgecifarError: the file isn't signed, or not with this key, or the key can't be read.

    """
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    public = _load(key, "public", serialization.load_pem_public_key)
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise EdgecifarError(f"{key}: it isn't an Ed25519 key: give the maker's public key")
    signature: dict[str, Any] = (model.metadata or {}).get("signature") or {}
    if not signature:
        raise EdgecifarError(f"{model.path}: it isn't signed: ask its maker for a signed file")
    fingerprint = _fingerprint(public, serialization)
    try:
        public.verify(base64.b64decode(signature["value"], validate=True), _message(model))
    except (InvalidSignature, KeyError, TypeError, ValueError) as error:
        maker = str(signature.get("key"))[:40]
        reason = "it doesn't fit the file" if maker == fingerprint else f"its key is {maker}"
        raise EdgecifarError(
            f"{model.path}: its signature wasn't made with {key} ({reason}): don't use it"
        ) from error
    return fingerprint


def _with_labels(model: ModelFile) -> ModelFile:
    """Put the labels into the description, which the signature covers; labels.txt it doesn't."""
    if not model.labels:
        return model
    return replace(model, metadata={**model.metadata, "labels": list(model.labels)})


def _message(model: ModelFile) -> bytes:
    parts = (_PURPOSE, model.sha256, modelfile.metadata_sha256(model.metadata or {}))
    return "\n".join(parts).encode()


def _fingerprint(public: Any, serialization: Any) -> str:
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _load(path: Path, which: str, parse: Any) -> Any:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise EdgecifarError(f"{path}: {error.strerror}: give the {which} key") from error
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise EdgecifarError(
            f"{path}: it isn't a {which} key in an unencrypted PEM file: give that"
        ) from error


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise EdgecifarError("signatures need cryptography: `pip install cryptography`") from error
    return serialization, ed25519
