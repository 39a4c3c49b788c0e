"""The shapes that a search looks at: drawn at random near the limits, estimated before built."""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.models.edgenet import Shape, Stage

_STEMS = (16, 32)
_WIDTHS = range(16, 273, 16)  # int8 kernels work on 16 output channels at a time
_BLOCKS = ("", "p", "r", "rp", "rr", "rrp", "rrr")
_STEM_STRIDES = (1, 1, 1, 1, 2)  # what is drawn: a stride of 2 now and then
_STAGE_STRIDES = (2, 2, 2, 2, 1)
_SMALLEST = Shape((Stage(16, 2),) * 3)  # in bytes and in work
# Shares of shapes with an option. The files cost the same without: only accuracy tells.
_OPTIONS = {"relu6": 0.2, "branches": 0.2, "whitened": 0.3}
_DRAWS = 50_000
# Shapes far below both limits lose to larger ones: not worth measuring.
_LEAST_SHARE = 0.7
_LATENCY_DOUBT = 1.15  # how far the estimate by MACs may be off
FINE_TUNED_BYTES = 1200  # that a file gains by quantization-aware training: longer tensor names
_WRITTEN = re.compile(r"(\d+\.?\d*|\.\d+)\s*(x|us|µs|ms)?")


@dataclass(frozen=True)
class Limits:
    """What the int8 file may cost: bytes without metadata, and latency on the device.

    `latency` counts microseconds, or multiples of a reference model's latency if `relative`.
    """

    bytes: int
    latency: float
    relative: bool

    def __post_init__(self) -> None:
        if not (self.bytes > 0 and 0 < self.latency < math.inf):
            raise EdgecifarError("limits must be above 0: raise --max-bytes or --max-latency")

    def __str__(self) -> str:
        """Return the limits as they are typed."""
        unit = "x" if self.relative else "us"
        return f"--max-bytes {self.bytes} --max-latency {self.latency:.9g}{unit}"

    def uses(self, size: float, latency: float) -> float:
        """Return the share of the limits that a file uses, of that limit of which it uses more."""
        return max(size / self.bytes, latency / self.latency)

    def around(self, size: float, latency: float) -> "Limits":
        """Return the limits, in round numbers, that a file of this size and latency just meets."""
        return Limits(int(_rounded_up(size)), _rounded_up(latency), self.relative)

    def raised_to(self, size: float, latency: float) -> "Limits":
        """Return these limits, raised as far as a file of this size and latency needs it."""
        needed = self.around(size, latency)
        return Limits(
            needed.bytes if size > self.bytes else self.bytes,
            needed.latency if latency > self.latency else self.latency,
            self.relative,
        )


def _rounded_up(value: float) -> float:
    """Return the next number of two digits that count."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.3g}")


def parse_latency(text: str) -> tuple[float, bool]:
    """Read a latency as it is typed; returns (value, relative).

    `250`, `250us` and `0.25ms` are microseconds, `0.9x` is a multiple.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if not match:
        raise EdgecifarError(
            f"--max-latency {text} is no latency: write 250us or 5ms, or 0.9x for a multiple"
        )
    number, unit = float(match[1]), match[2]
    return (1000 * number if unit == "ms" else number), unit == "x"


def estimated_bytes(shape: Shape, classes: int) -> int:
    """Return about how large the int8 file will be, fitted to 25 converted shapes (within 1 %)."""
    convolutions = list(shape.convolutions())
    channels = sum(layer.width for layer in convolutions)
    parameters = replace(shape, branches=False).parameters(classes)  # what it was fitted to
    return parameters + 23 * channels + 410 * len(convolutions) + 1600


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

    `latency` estimates a shape's latency in the unit of the limits. Equal arguments give equal
    shapes, and a larger `count` more of them. Raises EdgecifarError, which names limits that can
    be met or used, if there are none.
    """
    rng = random.Random(seed)
    widths = [width for width in _WIDTHS if 9 * width**2 <= limits.bytes] or [_WIDTHS[0]]
    near: dict[Shape, None] = {}
    below: dict[Shape, float] = {}
    for number in range(_DRAWS):
        shape = _draw(rng, widths) if number else _SMALLEST
        size, time = _needs(shape, classes, latency)
        if limits.uses(size, time / _LATENCY_DOUBT) > 1:
            continue
        used = limits.uses(size, time)
        if used < _LEAST_SHARE:
            below[shape] = used
            continue
        near[shape] = None
        if len(near) == count:
            break
    if near:
        return list(near)
    images = f"{image_size[1]}x{image_size[0]} images"
    if below:
        largest = limits.around(*_needs(max(below, key=below.__getitem__), classes, latency))
        raise EdgecifarError(
            f"every shape for {images} is far within {limits}, up to about {largest}: give limits "
            "that are no higher"
        )
    size, time = _needs(_SMALLEST, classes, latency)
    nearest = limits.raised_to(size, _LATENCY_DOUBT * time)
    raise EdgecifarError(
        f"no shape for {images} is within {limits}: raise them to about {nearest}, which the "
        "smallest needs"
    )


def _needs(shape: Shape, classes: int, latency: Callable[[Shape], float]) -> tuple[float, float]:
    """Return about what the fine-tuned file of a shape will cost: bytes and latency."""
    return estimated_bytes(shape, classes) + FINE_TUNED_BYTES, latency(shape)


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
