"""The README's picture: top-1 against latency, as an SVG for light and dark pages.

It is written out by hand, not by a plotting library, so that the same figures give the same bytes
with every version of everything, and a test can tell whether the committed picture is up to date.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from edgecifar.benchmarks.documents.systems import Kind, Mark

_WIDTH, _HEIGHT = 600, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 588, 82, 384  # of the axes
_FONT = 14
_LETTER = 0.57 * _FONT  # mean width, in fonts that are wide
_LEGEND_BOTTOM = 56
_LINE = _FONT + 4
_RADIUS = 6
_COLOURS = {  # on a light and on a dark surface: those of the report's page
    "surface": ("#ffffff", "#16191e"),
    "ink": ("#16191d", "#e9ecef"),
    "muted": ("#565e68", "#a2abb6"),
    "grid": ("#d9dde2", "#323a43"),
    "ours": ("#0072b2", "#5ab1ee"),
    "peer": ("#d05a00", "#f58c4b"),
}
_LEGEND: dict[Kind, str] = {  # of points
    "ours": "edgecifar, int8",
    "peer": "MLPerf Tiny",
    "measured": "seed report, ours",
    "reported": "reported",
}


@dataclass(frozen=True)
class Box:
    """A rectangle in the drawing's units."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Tell whether the two have a point in common."""
        apart = self.right < other.left or other.right < self.left
        return not (apart or self.bottom < other.top or other.bottom < self.top)

    def within(self, other: "Box") -> bool:
        """Tell whether all of this lies in `other`."""
        sideways = other.left <= self.left and self.right <= other.right
        return sideways and other.top <= self.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Scales:
    """Where figures lie in the drawing: latency on a logarithmic axis, top-1 on a linear one."""

    latencies: tuple[float, float]
    tops: tuple[int, int]

    def x(self, latency: float) -> float:
        """Return the place of a latency in us."""
        low, high = (log10(bound) for bound in self.latencies)
        return _LEFT + (log10(latency) - low) / (high - low) * (_RIGHT - _LEFT)

    def y(self, top1: float) -> float:
        """Return the place of a percentage."""
        low, high = self.tops
        return _BOTTOM - (top1 - low) / (high - low) * (_BOTTOM - _TOP)


def draw(shown: Sequence[Mark]) -> str:
    """Draw the marks."""
    scales = Scales(
        (0.7 * min(m.latency for m in shown), 1.5 * max(m.latency for m in shown)),
        (floor(min(m.top1 for m in shown)) - 1, ceil(max(m.top1 for m in shown)) + 1),
    )
    told = "; ".join(_told(mark) for mark in shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-size="{_FONT}" role="img">',
        f"<title>Top-1 on CIFAR-10's test images against latency. {escape(told)}.</title>",
        _style(),
        f'<rect class="surface" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
        *_legend(shown),
        *_axes(scales),
        *(part for mark in shown for part in _symbol(mark, scales)),
        *_labels(shown, scales),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _told(mark: Mark) -> str:
    source = ", as reported," if mark.kind == "reported" else ""
    return f"{mark.label}: {mark.top1:.2f} %{source} at {mark.latency:.0f} us"


def _style() -> str:
    def rules(index: int) -> str:
        roles = "".join(
            f".{role}{{fill:{pair[index]}}}.{role}-line{{stroke:{pair[index]};fill:none}}"
            for role, pair in _COLOURS.items()
        )
        return f"{roles}text{{stroke:{_COLOURS['surface'][index]}}}"

    return (  # a rim in the surface's colour keeps grid lines from crossing out the text
        "<style>text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',"
        "'Noto Sans',Arial,sans-serif;stroke-width:4px;stroke-linejoin:round;paint-order:stroke}"
        f"{rules(0)}"
        f"@media (prefers-color-scheme:dark){{{rules(1)}}}</style>"
    )


def _text(x: float, y: float, text: str, role: str, *, anchor: str = "start", bold=False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text class="{role}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>'
        f"{escape(text)}</text>"
    )


def _legend(shown: Sequence[Mark]) -> list[str]:
    parts, x = [], float(_LEFT)
    parts.append(_text(x, 24, "Top-1 on CIFAR-10 (%), test images", "ink", bold=True))
    for kind, text in _LEGEND.items():
        if any(mark.kind == kind for mark in shown):
            parts += [_glyph(kind, x + _RADIUS, 43), _text(x + 18, 48, text, "muted")]
            x += 18 + _LETTER * len(text) + 14
    return parts


def _glyph(kind: Kind, x: float, y: float) -> str:
    """Tell kinds apart by shape as well as by colour."""
    if kind == "ours":
        return f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>'
    if kind == "peer":
        side = 2 * _RADIUS - 2
        return (
            f'<rect class="peer-line" stroke-width="2.5" x="{x - side / 2:.1f}" '
            f'y="{y - side / 2:.1f}" width="{side}" height="{side}"/>'
        )
    style = 'class="muted"' if kind == "measured" else 'class="muted-line" stroke-width="2"'
    return (
        f'<path {style} d="M{x:.1f} {y - _RADIUS:.1f}l{_RADIUS} {_RADIUS} -{_RADIUS} '
        f'{_RADIUS} -{_RADIUS} -{_RADIUS}z"/>'
    )


def _axes(scales: Scales) -> list[str]:
    parts = []
    for top1 in range(scales.tops[0], scales.tops[1] + 1):
        if top1 % 5 == 0:
            y = scales.y(top1)
            parts.append(f'<path class="grid-line" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
            parts.append(_text(_LEFT - 8, y + 5, str(top1), "muted", anchor="end"))
    for latency in _ticks(*scales.latencies):
        x = scales.x(latency)
        parts.append(f'<path class="grid-line" d="M{x:.1f} {_TOP}V{_BOTTOM}"/>')
        parts.append(_text(x, _BOTTOM + 20, f"{latency:,}", "muted", anchor="middle"))
    middle = (_LEFT + _RIGHT) / 2
    parts.append(
        _text(middle, _BOTTOM + 42, "latency of one image on one core, µs", "muted",
              anchor="middle")
    )  # fmt: skip
    return parts


def _ticks(low: float, high: float) -> list[int]:
    """Return round latencies from 1, 2, 5, 10 … between the bounds."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = [round(step * 10**decade) for decade in decades for step in (1, 2, 5) if decade >= 0]
    return [step for step in steps if low <= step <= high]


def _symbol(mark: Mark, scales: Scales) -> list[str]:
    x, y = scales.x(mark.latency), scales.y(mark.top1)
    if not mark.interval:
        return [_glyph(mark.kind, x, y)]
    low, high = map(scales.y, mark.interval)
    role = mark.kind if mark.kind in _COLOURS else "muted"
    bar = f'<path class="{role}-line" stroke-width="1.5" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
    return [bar, _glyph(mark.kind, x, y)]


def _labels(shown: Sequence[Mark], scales: Scales) -> list[str]:
    """Write each label beside its mark, where it covers no other; ours choose first."""
    area = Box(_LEFT, _LEGEND_BOTTOM, _WIDTH - 4, _BOTTOM)
    taken = [_around(mark, scales) for mark in shown]
    parts = []
    for mark in shown:
        text = f"{mark.label} {mark.top1:.1f}"
        x, y, anchor, box = _place(mark, len(text) * _LETTER, scales, area, taken)
        taken.append(box)
        parts.append(_text(x, y, text, "ink", anchor=anchor, bold=mark.kind == "ours"))
    return parts


def _around(mark: Mark, scales: Scales) -> Box:
    x, y = scales.x(mark.latency), scales.y(mark.top1)
    return Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS)


def _place(
    mark: Mark, width: float, scales: Scales, area: Box, taken: Sequence[Box]
) -> tuple[float, float, str, Box]:
    """Return the start of a label's baseline, its anchor and its box, in a place that is free."""
    x, y = scales.x(mark.latency), scales.y(mark.top1)
    low, high = (abs(scales.y(bound) - y) for bound in mark.interval or (mark.top1, mark.top1))
    side, above, below = _RADIUS + 6, max(high, _RADIUS) + 6, max(low, _RADIUS) + _FONT + 2
    choices = [
        (x + side, y + 5, "start", x + side),
        (x - side, y + 5, "end", x - side - width),
        *(
            (place, base, anchor, start)
            for base in (y - above, y + below, y - above - _LINE, y + below + _LINE)
            for place, anchor, start in (
                (x - _RADIUS, "start", x - _RADIUS),
                (x + _RADIUS, "end", x + _RADIUS - width),
                (x, "middle", x - width / 2),
            )
        ),
    ]
    boxes = [
        (left, base, anchor, Box(start, base - _FONT, start + width, base + 4))
        for left, base, anchor, start in choices
    ]
    free = [b for b in boxes if b[3].within(area) and not any(map(b[3].overlaps, taken))]
    return (free or boxes)[0]
