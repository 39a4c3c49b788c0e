"""Prove that a file is what was exported, and that this machine computes the same with it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecifar.runtime import golden, modelfile
from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.golden import Agreement
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.runtime.shipped import locate
from edgecifar.runtime.tables import printable


@dataclass(frozen=True)
class Verification:
    """What was found: ``signed_by`` is a key's fingerprint, if one was checked."""

    model: ModelFile
    signed_by: str | None
    agreement: Agreement

    @property
    def problem(self) -> str | None:
        """Why the file doesn't do here what it should, or None."""
        found = self.agreement
        if found.holds:
            return None
        return (
            f"{self.model.path}: {found.computed_with} gives other outputs here than "
            f"{found.recorded_with} gave (a probability differs by {found.largest_difference:.3g}"
            f", {found.allowed:g} is allowed): install that version, or take a float32 file"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it, which has no number for a difference from NaN."""
        difference = self.agreement.largest_difference
        difference = difference if math.isfinite(difference) else None
        return {
            "file": str(self.model.path),
            "name": self.model.name,
            "sha256": self.model.sha256,
            "metadata_sha256": (self.model.metadata or {}).get("metadata_sha256"),
            "signed_by": self.signed_by,
            "golden": asdict(self.agreement) | {"largest_difference": difference},
            "holds": self.agreement.holds,
        }


def verify(
    path: Path | None = None, *, key: Path | None = None, backend: str | None = None
) -> Verification:
    """Check a file's checksums, its signature if a public ``key`` is given, and golden outputs.

    ``path`` may be the name of a model that ships with the runtime.

    Raises:
        EdgecifarError: the file is damaged, not signed with that key, can't be loaded here, or
            holds nothing that it could be checked against.

    """
    model = modelfile.read(locate(path))
    if model.metadata is None:
        raise EdgecifarError(
            f"{model.path}: it holds no checksum and no golden outputs, so nothing can be "
            "verified: export it with edgecifar"
        )
    signed_by = None
    if key is not None:
        from edgecifar.runtime import signing

        signed_by = signing.check(model, key)
    agreement = golden.compare(Classifier(model, threads=1, backend=backend))
    if agreement is None:
        raise EdgecifarError(
            f"{model.path}: its checksums are right, but it holds no golden outputs to compute "
            "again: export it again"
        )
    return Verification(model, signed_by, agreement)


def lines(verification: Verification) -> list[str]:
    """Lay out a verification for a terminal."""
    model, found = verification.model, verification.agreement
    signature = "not checked (--key)" if (model.metadata or {}).get("signature") else "none"
    if verification.signed_by:
        signature = f"valid, by the key {verification.signed_by}"
    difference = f"differ by {found.largest_difference:.3g} at most ({found.allowed:g} is allowed)"
    fields = {
        "file": f"{model.path} ({model.name})",
        "payload": f"SHA-256 {model.sha256}, as recorded",
        "description": "SHA-256 as recorded",
        "signature": signature,
        "golden outputs": f"{found.n} images: "
        + ("identical bit by bit" if found.identical else difference),
        "labels": f"{found.same_labels} of {found.n} the same",
        "computed with": f"{found.computed_with} here, {found.recorded_with} at export",
    }
    width = max(map(len, fields))
    return [f"{name.ljust(width)}  {printable(text)}" for name, text in fields.items()]
