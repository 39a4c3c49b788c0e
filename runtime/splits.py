"""Which image belongs to which split, by content alone.

The rule looks at pixels and labels only, so that a folder, a zip, an .npz and the official
archive of the same images give the same splits in the same order, on any machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping, Sequence

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import WHOLE

SPLITS = ("train", "validation", "test")

VALIDATION_SHARE = 0.1
"""Share of each class's training images that is the validation split, if none is given."""

TEST_SHARE = 0.2
"""Share of each class's images that is the test split of a set without a test part."""

DIGEST_BYTES = 32
"""Bytes of a SHA-256."""


def digest(image: np.ndarray) -> np.ndarray:
    """Return the SHA-256 of an image's shape and pixels, as uint8 [32]."""
    state = hashlib.sha256(json.dumps(image.shape).encode())
    state.update(np.ascontiguousarray(image))
    return np.frombuffer(state.digest(), np.uint8)


def digest_all(images: np.ndarray) -> np.ndarray:
    """Return the digest of each image of uint8 [N, H, W, 3], as uint8 [N, 32]."""
    found = np.empty((len(images), DIGEST_BYTES), np.uint8)
    for index, image in enumerate(images):
        found[index] = digest(image)
    return found


def fingerprint(
    classes: Sequence[str],
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    scaled_to: tuple[int, int] | None = None,
) -> str:
    """Return the SHA-256 (hex) of class names and of each split's (labels, digests).

    The order of images inside a split doesn't matter; the size to which they were scaled does.
    """
    state = hashlib.sha256(json.dumps(list(classes)).encode())
    if scaled_to:
        state.update(json.dumps(["scaled", *scaled_to]).encode())
    for name in sorted(splits):
        labels, identity = splits[name]
        rows = _sorted(labels, identity)
        state.update(json.dumps([name, len(labels)]).encode())
        state.update(np.ascontiguousarray(labels[rows], "<i8"))
        state.update(np.ascontiguousarray(identity[rows]))
    return state.hexdigest()


def assign(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str]
) -> dict[str, tuple[str, np.ndarray]]:
    """Say for each split which part its images come from, and which rows in which order.

    `parts` gives (labels, digests) of "train", "validation" and "test", or of WHOLE alone.
    Splits that no part is named after are cut from the training part, as `cut` does.
    """
    source = "train" if "train" in parts else WHOLE
    if source not in parts:
        raise EdgecifarError(
            f"there are only {' and '.join(parts)} images, none to train on: add a train part"
        )
    named = {name: (name, order(*parts[name])) for name in parts if name != source}
    rows = cut(*parts[source], missing_shares(parts), classes)
    named |= {split: (source, index) for split, index in rows.items()}
    return {split: named[split] for split in SPLITS}


def missing_shares(parts: Container[str]) -> dict[str, float]:
    """Return the share of the training part that each split without a part of its own takes."""
    shares = {"validation": VALIDATION_SHARE, "test": TEST_SHARE}
    return {split: share for split, share in shares.items() if split not in parts}


def cut(
    labels: np.ndarray, identity: np.ndarray, shares: Mapping[str, float], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Divide one part: of each class sorted by digest the shares in their order, then "train".

    A share grows by what copies of its last image there are in the class.
    Returns the rows of each split, in the order of `order`.
    """
    chosen: dict[str, list[np.ndarray]] = {name: [] for name in (*shares, "train")}
    by_digest = _sorted(labels, identity)
    for label, name in enumerate(classes):
        rows = by_digest[labels[by_digest] == label]
        start = 0
        for split, share in shares.items():
            end = _past_copies(identity[rows], start + max(1, round(share * len(rows))))
            chosen[split].append(rows[start:end])
            start = end
        if start >= len(rows):
            different = len(np.unique(identity[rows], axis=0))
            raise EdgecifarError(
                f"class {name} has too few different training images ({different}) to set some "
                f"aside for {' and '.join(shares) or 'training'}: add images to it or remove the "
                "class"
            )
        chosen["train"].append(rows[start:])
    joined = {split: np.concatenate(rows) for split, rows in chosen.items()}
    return {split: rows[order(labels[rows], identity[rows])] for split, rows in joined.items()}


def _past_copies(identity: np.ndarray, end: int) -> int:
    """Return the first place from `end` on that parts no copies, whose sorted digests are equal."""
    while end < len(identity) and np.array_equal(identity[end - 1], identity[end]):
        end += 1
    return end


def order(labels: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the rows in the order in which a split is stored: a shuffle that never changes.

    They are sorted by the digest's last words, since `cut` has chosen them by the first.
    """
    return np.lexsort((labels, *_words(identity)))


def _sorted(labels: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the rows sorted by digest, then label."""
    return np.lexsort((labels, *_words(identity)[::-1]))


def _words(identity: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(identity).view(">u8").T
