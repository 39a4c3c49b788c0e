"""Image sets in .npz files.

Two layouts: `images`, `labels` and optionally `classes` (what `edgecifar data pack` writes, which
adds `split`, `name` and `dataset_fingerprint`), and Keras's `x_train`, `y_train`, `x_test`,
`y_test`, optionally `x_val`, `y_val`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import DAMAGED, PART_NAMES, WHOLE, require_usable

_KERAS_PARTS = {"x_train": "train", "x_val": "validation", "x_valid": "validation"}
_KERAS_PARTS["x_test"] = "test"
_RGB = 3
_LIKELY_CLASSES = 1000  # more than there are images; beyond them a label is a stray one
_DAMAGED = (*DAMAGED, ValueError, AttributeError, TypeError)  # NumPy raises more


@dataclass(frozen=True)
class ArrayFile:
    """What an .npz file holds: (images uint8 [N, H, W, 3], labels int64 [N]) of each part.

    `packed` is true for one split of a data set, written by `edgecifar data pack`.
    """

    classes: tuple[str, ...]
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    name: str | None = None
    dataset_fingerprint: str | None = None
    packed: bool = False


def read_npz(path: Path) -> ArrayFile:
    """Read and check an .npz file; nothing in it is unpickled.

    Raises EdgecifarError for a damaged file, other keys, dtypes, shapes or labels than described.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except FileNotFoundError:
        raise EdgecifarError(f"{path} does not exist: check the path") from None
    except _DAMAGED as error:
        raise EdgecifarError(
            f"{path} is not a whole .npz file of plain arrays ({error}): write it again"
        ) from None
    pairs = _pairs(arrays, path)
    parts = {part: _checked(arrays, keys, path) for part, keys in pairs.items()}
    classes = _classes(arrays, parts, path)
    return ArrayFile(
        classes,
        parts,
        _text(arrays, "name"),
        _text(arrays, "dataset_fingerprint"),
        packed="images" in arrays and WHOLE not in parts,
    )


def _pairs(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, tuple[str, str]]:
    if "images" in arrays:
        split = _text(arrays, "split")
        pairs = {PART_NAMES.get((split or "").lower(), WHOLE): ("images", "labels")}
    else:
        pairs = {part: (key, f"y{key[1:]}") for key, part in _KERAS_PARTS.items() if key in arrays}
        if {"x_val", "x_valid"} <= arrays.keys():
            raise EdgecifarError(f"{path} has both x_val and x_valid: leave one there")
    wanted = [key for pair in pairs.values() for key in pair]
    if not pairs or any(key not in arrays for key in wanted):
        held = ", ".join(sorted(arrays)) or "nothing"
        raise EdgecifarError(
            f"{path} holds {held}: name its arrays images and labels, "
            "or x_train, y_train, x_test and y_test"
        )
    return pairs


def _checked(
    arrays: Mapping[str, np.ndarray], keys: tuple[str, str], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = arrays[keys[0]], arrays[keys[1]]
    if images.dtype != np.uint8:
        raise EdgecifarError(
            f"{path}: {keys[0]} is {images.dtype}: store pixels as uint8, 0 to 255"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, _RGB) or not images.size:
        raise EdgecifarError(
            f"{path}: {keys[0]} has shape {images.shape}: store [N, height, width, 3], "
            "channels last"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise EdgecifarError(
            f"{path}: {keys[1]} is {labels.dtype} of shape {labels.shape} for {len(images)} "
            "images: store one integer class number for each"
        )
    if images.shape[-1] == 1:
        images = np.repeat(images, _RGB, axis=-1)
    return images, labels.astype(np.int64)


def _classes(
    arrays: Mapping[str, np.ndarray],
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    path: Path,
) -> tuple[str, ...]:
    lowest = min(int(labels.min()) for _, labels in parts.values())
    highest = max(int(labels.max()) for _, labels in parts.values())
    names = tuple(map(_name, arrays["classes"].ravel())) if "classes" in arrays else None
    count = len(names) if names else highest + 1
    held = sum(len(labels) for _, labels in parts.values())
    if not names and count > max(_LIKELY_CLASSES, held):
        raise EdgecifarError(
            f"{path}: labels go up to {highest} and there are {held} images: "
            "store the names as `classes`"
        )
    if lowest == 1 and not names:
        raise EdgecifarError(f"{path}: labels go from 1 to {highest}: count classes from 0")
    if lowest < 0 or highest >= count:
        raise EdgecifarError(
            f"{path}: labels go from {lowest} to {highest}: use 0 to {count - 1}"
            + (f" for its {count} classes" if names else "")
        )
    if count < 2:
        raise EdgecifarError(f"{path} has only one class: a classifier needs two or more")
    require_usable(names or (), path)
    return names or tuple(str(number) for number in range(count))


def _name(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _text(arrays: Mapping[str, np.ndarray], key: str) -> str | None:
    value = arrays.get(key)
    return str(value) if value is not None and value.ndim == 0 else None
