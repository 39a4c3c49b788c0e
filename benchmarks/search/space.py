"""The shapes that a search looks at: drawn at random near the limits, estimated before built."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.models.edgenet import Shape, Stage

_STEMS = (16, 32)
_WIDTHS = range(16, 273, 16)  # int8 kernels work on 16 output channels at a time
_BLOCKS = ("", "p", "r", "rp", "rr", "rrp", "rrr")
_STEM_STRIDES = (1, 1, 1, 1, 2)  # what is drawn: a stride of 2 now and then
_STAGE_STRIDES = (2, 2, 2, 2, 1)
# Shares of shapes with an option. The files cost the same without: only accuracy tells.
_OPTIONS = {"relu6": 0.2, "branches": 0.2, "whitened": 0.3}
_DRAWS = 50_000
# Shapes far below both limits lose to larger ones: not worth measuring.
_LEAST_SHARE = 0.7
_LATENCY_DOUBT = 1.15  # how far the estimate by MACs may be off
FINE_TUNED_BYTES = 1200  # that a file gains by quantization-aware training: longer tensor names


@dataclass(frozen=True)
class Limits:
    """What the int8 file may cost: bytes without metadata, and latency on the device.

    `latency` counts microseconds, or multiples of a reference model's latency if `relative`.
    """

    bytes: int
    latency: float
    relative: bool

    def __post_init__(self) -> None:
        if self.bytes <= 0 or self.latency <= 0:
            raise EdgecifarError("limits must be above 0: raise --max-bytes or --max-latency")


def parse_latency(text: str) -> tuple[float, bool]:
    """Read `250` or `250us` as microseconds and `0.9x` as a multiple; returns (value, relative)."""
    relative = text.endswith("x")
    number = text.removesuffix("x") if relative else text.removesuffix("us")
    try:
        return float(number), relative
    except ValueError:
        raise EdgecifarError(
            f"--max-latency {text} is no latency: write 250us, or 0.9x for a multiple"
        ) from None


def estimated_bytes(shape: Shape, classes: int) -> int:
    """Return about how large the int8 file will be, fitted to converted shapes (within 2 %)."""
    convolutions = list(shape.convolutions())
    channels = sum(layer.width for layer in convolutions)
    return shape.parameters(classes) + 22 * channels + 310 * len(convolutions) + 2800


def draw_shapes(
    count: int,
    limits: Limits,
    image_size: tuple[int, int],
    classes: int,
    *,
    latency: Callable[[Shape], float],
    seed: int,
) -> list[Shape]:
    """Return up to `count` different shapes that should meet `limits` without wasting them.

    `latency` estimates a shape's latency in the unit of the limits. Raises EdgecifarError if
    none is found.
    """
    rng = random.Random(seed)
    widths = [width for width in _WIDTHS if 9 * width**2 <= limits.bytes] or [_WIDTHS[0]]
    found: dict[Shape, None] = {}
    for _ in range(_DRAWS):
        shape = _draw(rng, widths)
        size = estimated_bytes(shape, classes) / limits.bytes
        time = latency(shape) / limits.latency
        if size <= 1 and time <= _LATENCY_DOUBT and max(size, time) >= _LEAST_SHARE:
            found[shape] = None
            if len(found) == count:
                break
    if not found:
        height, width = image_size
        raise EdgecifarError(
            f"no shape for {width}x{height} images is within the limits, and near them: "
            "change --max-bytes or --max-latency"
        )
    return list(found)


def _draw(rng: random.Random, choice: list[int]) -> Shape:
    """Draw two or three stages after the stem, none narrower than the one before, and options."""
    stem = Stage(rng.choice(_STEMS), rng.choice(_STEM_STRIDES), rng.choice(("", "p", "r")))
    widths = sorted(rng.choices(choice, k=rng.choice((2, 3))))
    rest = [
        Stage(max(width, stem.width), rng.choice(_STAGE_STRIDES), rng.choice(_BLOCKS))
        for width in widths
    ]
    options = {name: rng.random() < share for name, share in _OPTIONS.items()}
    return Shape((stem, *rest), **options)
