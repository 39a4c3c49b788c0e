"""How a network from elsewhere wants its pixels: as told, as its layers show, or as measured."""

import re
from collections.abc import Callable

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import wilson
from edgecifar.train.normalisation import MEAN, SCALE
from edgecifar.train.stem import Preprocessing

NAMED = {
    "0..255": Preprocessing((0.0,) * 3, (1.0,) * 3),
    "0..1": Preprocessing((0.0,) * 3, (255.0,) * 3),
    "-1..1": Preprocessing((127.5,) * 3, (127.5,) * 3),
    "imagenet": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": Preprocessing((123.68, 116.779, 103.939), (1.0,) * 3, bgr=True),
    "edgecifar": Preprocessing((MEAN,) * 3, (SCALE,) * 3),
}
"""Scales in use: raw, of fractions, of MobileNet and others, torchvision's, the original ResNet's
(blue first) and our own."""
_IMAGES = 500
_SETTLED = 16.0  # what networks compute with lies between minus and plus this, rather than 0..255


def parse(text: str) -> Preprocessing:
    """Return what `--pixels` asks for: a name, or mean/scale of pixels, one or three of each."""
    if text in NAMED:
        return NAMED[text]
    number = r"\d+(?:\.\d+)?"
    three = rf"({number}(?:,{number},{number})?)"
    match = re.fullmatch(rf"{three}/{three}", text.replace(" ", ""))
    if not match:
        raise EdgecifarError(
            f"--pixels {text} is no scale: give {', '.join(NAMED)}, or mean/scale of pixels such "
            "as 125.3,123,113.9/63,62.1,66.7"
        )
    mean, scale = (tuple(map(float, part.split(","))) for part in match.groups())
    if 0 in scale:
        raise EdgecifarError(f"--pixels {text} divides by 0: give the scale that divides a pixel")
    if max(mean) <= 1 and max(scale) < 1:
        levels = "/".join(",".join(f"{255 * n:g}" for n in part) for part in (mean, scale))
        raise EdgecifarError(
            f"--pixels {text} is of fractions: for pixels of 0 to 255 give {levels}"
        )
    return Preprocessing(
        mean * 3 if len(mean) == 1 else mean, scale * 3 if len(scale) == 1 else scale
    )


def takes_raw(prepared: Preprocessing) -> bool:
    """Tell whether layers that make `prepared` of raw pixels are there to make small numbers."""
    ends = prepared(np.array([[0, 0, 0], [255, 255, 255]]))
    return bool(np.abs(ends).max() <= _SETTLED)


def measure(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray
) -> tuple[str, str]:
    """Return the name of the scale with which a network tells most images right, and how many.

    `predict` takes inputs, float32 [n, height, width, 3], to outputs [n, classes]; `images` are
    uint8, with their `labels`. Raises EdgecifarError if the best isn't clearly the best.
    """
    images, labels = images[:_IMAGES], labels[:_IMAGES]
    scores = {}
    for name, pixels in NAMED.items():
        right = (predict(pixels(images)).argmax(axis=1) == labels).sum()
        scores[name] = wilson(int(right), len(labels))
    ranked = sorted(scores, key=lambda name: scores[name].value, reverse=True)
    shown = ", ".join(f"{name} {scores[name].value:.1f} %" for name in ranked)
    seen = f"top-1 of {len(labels)} validation images with each scale: {shown}"
    if scores[ranked[0]].low <= scores[ranked[1]].value:
        raise EdgecifarError(
            f"the scale of its pixels can't be told ({seen}): give --pixels, and see that its "
            "classes are in the order that `edgecifar data info` shows"
        )
    return ranked[0], seen
