"""Matplotlib figures as inline SVG that takes its colours and its font from the page.

Figures are drawn with placeholder colours which become CSS variables afterwards, so that one
drawing follows the page into dark mode; text stays text, in the page's font.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES_COUNT = 8
_WIDTH = 4.5  # inches at 72 units each: 324 units, what a phone has, so text is not shrunk there

_ROLES = ("ink", "muted", "grid", "surface", "accent", "on-accent")
_ROLES += tuple(f"series-{i}" for i in range(SERIES_COUNT))
# Colours nobody would choose, one a role; matplotlib leaves pure black out of its output.
_PLACEHOLDERS = {role: f"#01fe{i:02x}" for i, role in enumerate(_ROLES, start=1)}

# What an inline drawing must not bring along: a style sheet for the whole page, its own font, and
# transformations that do nothing.
_NOISE = (
    r"<metadata>.*?</metadata>",
    r"<!--.*?-->",
    r"<style.*?</style>",
    r"font-family: [^;\"]+(?:; )?",
    r' transform="rotate\(-0 [^"]*"',
)

_RC = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": _PLACEHOLDERS["ink"],
    "axes.labelcolor": _PLACEHOLDERS["muted"],
    "axes.edgecolor": _PLACEHOLDERS["grid"],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _PLACEHOLDERS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": _PLACEHOLDERS["grid"],
    "ytick.color": _PLACEHOLDERS["grid"],
    "xtick.labelcolor": _PLACEHOLDERS["muted"],
    "ytick.labelcolor": _PLACEHOLDERS["muted"],
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a name with two $ is no formula
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Plot:
    """One drawing: inline SVG that says what it shows, a title and a line of reading help.

    `marked` tells whether it needs the page's legend of marks.
    """

    svg: str
    title: str
    caption: str
    marked: bool = False


def colour(role: str) -> str:
    """Return the placeholder for the CSS variable `--role`, to be used as a matplotlib colour."""
    return _PLACEHOLDERS[role]


def series(index: int) -> str:
    """Return the placeholder for data series `index`; colours repeat after SERIES_COUNT."""
    return colour(f"series-{index % SERIES_COUNT}")


@contextmanager
def canvas(height: float) -> Iterator["Figure"]:
    """Give an empty figure of `height` inches in the page's style, without pyplot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        yield Figure(figsize=(_WIDTH, height), layout="constrained")


def render(figure: "Figure", name: str, *, alt: str) -> str:
    """Return `figure` as an <svg> element with ids of its own; call it inside `canvas`.

    `name` makes ids unique on the page and the output reproducible; `alt` describes the drawing.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> str:
    view_box = re.search(r'viewBox="([^"]+)"', svg).group(1)
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    # In attributes alone: the same in a text would be another number.
    body = re.sub(r"(\d\.\d\d)\d+(?=[^<>]*>)", r"\1", body).replace("xlink:href", "href")
    for noise in _NOISE:
        body = re.sub(noise, "", body, flags=re.S)
    for role, placeholder in _PLACEHOLDERS.items():
        body = body.replace(placeholder, f"var(--{role})")
    body = re.sub(r">\s+<", "><", _unique_ids(body, name))
    return f'<svg viewBox="{view_box}" role="img" aria-label="{escape(alt)}">{body.strip()}</svg>'


def _unique_ids(body: str, name: str) -> str:
    """Prefix ids that something refers to and drop the others: the page holds many drawings."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))

    def replace(match: re.Match) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r' id="([^"]+)"', replace, body)
    return re.sub(r'(url\(#|href="#)', rf"\1{name}-", body)
