"""Golden outputs: what the workstation's kernels computed, for a device to compute again.

No image travels in the file. It names images of a generator that gives the same pixels on every
machine, and holds the model's raw output for each.
"""

import base64
from dataclasses import dataclass
from hashlib import shake_128
from typing import Any

import numpy as np

from edgecifar.runtime.classifier import Classifier
from edgecifar.runtime.errors import EdgecifarError

GENERATOR = "shake128-blocks-1"
COUNT = 8
_CANDIDATES = 64
_LAYERS = ((2, 4), (4, 2), (8, 1), (16, 1))  # cells a side, and their weight; of 8 in all
_NOT_OURS = "its golden outputs are of an unknown kind: update edgecifar-runtime"


@dataclass(frozen=True)
class Agreement:
    """How ``n`` outputs computed here compare with those in the file.

    ``largest_difference`` is one between two probabilities of a class, ``allowed`` what the file
    says it may be, 0 for bit by bit.
    """

    n: int
    identical: bool
    same_labels: int
    largest_difference: float
    allowed: float
    computed_with: str
    recorded_with: str

    @property
    def holds(self) -> bool:
        """Whether the device computes what the workstation did."""
        return self.identical or self.largest_difference <= self.allowed


def draw(number: int, height: int, width: int) -> np.ndarray:
    """Return image ``number`` of the generator, uint8 [height, width, 3].

    Grids of coloured cells, coarse to fine, laid over each other with falling weights. The cells
    are bytes of SHAKE-128, so that no library's random numbers have a part in them.
    """
    total = np.zeros((height, width, 3), np.int64)
    for cells, weight in _LAYERS:
        stream = shake_128(b"edgecifar golden %d %d" % (number, cells)).digest(3 * cells * cells)
        grid = np.frombuffer(stream, np.uint8).reshape(cells, cells, 3).astype(np.int64)
        rows, columns = (np.arange(size) * cells // size for size in (height, width))
        total += weight * grid[rows][:, columns]
    # Sums of bytes crowd around the middle: twice the contrast reaches black and white.
    return np.clip((total - 8 * 128) // 4 + 128, 0, 255).astype(np.uint8)


def record(model: Classifier, *, tolerance: float, elsewhere: float) -> dict[str, Any]:
    """Compute golden outputs for a file's description.

    Of the generator's first images those are taken that the model is least sure of: a sure one's
    scores are 0 and 1 whatever the kernels do. ``tolerance`` is the largest difference of a
    probability that the same interpreter may show on another machine (0: none, bit by bit),
    ``elsewhere`` another interpreter.
    """
    size = model.image_shape[:2]
    drawn = np.stack([draw(number, *size) for number in range(_CANDIDATES)])
    sureness = model.predict(drawn).probabilities.max(axis=1)
    numbers = sorted(np.argsort(sureness, kind="stable")[:COUNT].tolist())
    outputs = np.concatenate([model.scores(drawn[number]) for number in numbers])
    return {
        "generator": GENERATOR,
        "images": numbers,
        "dtype": str(outputs.dtype),
        "outputs": base64.b64encode(_little_endian(outputs).tobytes()).decode(),
        "tolerance": tolerance,
        "tolerance_elsewhere": elsewhere,
        "backend": model.backend,
    }


def compare(model: Classifier) -> Agreement | None:
    """Compute the golden outputs again; None if the file has none.

    Raises:
        EdgecifarError: they are of a kind that this version doesn't know.

    """
    golden = (model.model.metadata or {}).get("golden")
    if not golden:
        return None
    try:
        images, recorded = _parse(golden, model)
        same = golden["backend"].split()[0] == model.backend.split()[0]
        allowed = float(golden["tolerance" if same else "tolerance_elsewhere"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise EdgecifarError(f"{model.model.path}: {_NOT_OURS}") from error
    computed = np.concatenate([model.scores(image) for image in images])
    ours, theirs = model.probabilities(computed), model.probabilities(recorded)
    difference = np.abs(ours - theirs)
    # NaN, which a broken kernel may give, must not pass for a small difference.
    largest = np.inf if np.isnan(difference).any() else float(difference.max())
    return Agreement(
        n=len(recorded),
        identical=computed.tobytes() == recorded.tobytes(),
        same_labels=int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum()),
        largest_difference=largest,
        allowed=allowed,
        computed_with=model.backend,
        recorded_with=golden["backend"],
    )


def _parse(golden: dict[str, Any], model: Classifier) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the images and the outputs [n, classes] recorded for them."""
    dtype = model.output.dtype
    if golden["generator"] != GENERATOR or golden["dtype"] != str(dtype):
        raise ValueError(golden["generator"])
    numbers = [int(number) for number in golden["images"]]
    raw = base64.b64decode(golden["outputs"], validate=True)
    if not 0 < len(numbers) <= _CANDIDATES:  # more would be drawn for hours
        raise ValueError(f"{len(numbers)} images")
    outputs = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)
    outputs = outputs.reshape(len(numbers), len(model.classes))
    return [draw(number, *model.image_shape[:2]) for number in numbers], outputs


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"))
