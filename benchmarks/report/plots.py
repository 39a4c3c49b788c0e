"""The drawings of a page as SVG files: each with its title, its caption and the legend it needs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path
from textwrap import wrap
from typing import Any

from edgecifar.benchmarks.report.figures import MARKERS
from edgecifar.benchmarks.report.svg import SERIES_COUNT, Plot

_PAD, _LINE = 12.0, 14.0
_TITLE, _TEXT = 13, 10  # font sizes
_LETTER = 0.57  # mean width of a letter, in fonts that are wide
_FONT = "system-ui,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',Arial,sans-serif"
_CSS = Path(__file__).parent / "page.css"

Legend = Sequence[tuple[int, str]]  # the numbers of marks and colours, and what they are of


@dataclass(frozen=True)
class Drawn:
    """A drawing of a page: what it is of, its title and the legend of the page's marks."""

    of: str
    plot: Plot
    legend: Legend = ()

    @property
    def name(self) -> str:
        """What its file is called, in words."""
        return f"{self.of} {self.plot.title}"

    @property
    def title(self) -> str:
        """What stands above it."""
        return f"{self.of}: {self.plot.title}" if self.of else self.plot.title


def svg_files(contents: Mapping[str, Any]) -> dict[str, str]:
    """Return every drawing of a page as an SVG document, by a file name that says what it is.

    `contents` is what the page's template is filled with.
    """
    found: dict[str, str] = {}
    for drawn in _drawings(contents):
        names = (slug(drawn.name) + (f"-{n}" if n > 1 else "") + ".svg" for n in count(1))
        found[next(name for name in names if name not in found)] = standalone(drawn)
    return found


def slug(text: str) -> str:
    """Turn words into a file name: `Accuracy against latency` into `accuracy-against-latency`."""
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-.")


def standalone(drawn: Drawn) -> str:
    """Return a drawing as a document of its own, on white, in the colours of the light page."""
    head, width, height, body = _parts(drawn.plot.svg)
    across = width + 2 * _PAD
    caption = wrap(drawn.plot.caption, int(width / (_LETTER * _TEXT)))
    top = _PAD + _TITLE + _LINE * len(caption) + 8
    legend = drawn.legend if drawn.plot.marked else ()
    marks = list(_legend(legend, width, top + height + _LINE))
    bottom = max([top + height, *(y for y, _ in marks)]) + _PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:g} {bottom:g}" '
        f'width="{across:g}" height="{bottom:g}" font-family="{_FONT}" role="img">',
        f"<title>{escape(drawn.title)}</title>",
        f"<desc>{head}</desc>",
        f'<rect width="{across:g}" height="{bottom:g}" fill="var(--surface)"/>',
        _text(_PAD, _PAD + _TITLE, drawn.title, "ink", heading=True),
        *(
            _text(_PAD, _PAD + _TITLE + _LINE * line, text, "muted")
            for line, text in enumerate(caption, start=1)
        ),
        f'<svg x="{_PAD:g}" y="{top:g}" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}">{body}</svg>',
        *(part for _, part in marks),
        "</svg>",
    ]
    return _coloured("\n".join(parts)) + "\n"


def _drawings(contents: Mapping[str, Any]) -> Iterator[Drawn]:
    """Yield the drawings of a page of runs and benches, or of a study."""
    for plot in contents.get("standing_plots", ()):
        yield Drawn("", plot, contents["legend"])
    if plot := contents.get("ablation_plot"):
        yield Drawn("", plot)
    benches = contents["benches"]
    alone = len(benches) == 1 and "standing_plots" not in contents
    for number, bench in enumerate(benches, start=1):
        legend = [(row.index, row.name) for row in bench.rows if not row.error]
        for plot in bench.plots:
            yield Drawn("" if alone else f"Bench {number}", plot, legend)
    if side := contents["side"]:
        for plot in side.plots:
            yield Drawn("All", plot, side.legend)
    for run in contents["runs"]:
        yield from _of_run(run)


def _of_run(run: Any) -> Iterator[Drawn]:
    for plot in (*run.curves, run.classes, run.reliability):
        if plot:
            yield Drawn(run.name, plot)
    for plot in run.matrices:
        yield Drawn(f"{run.name}, confusion", plot)


def _parts(svg: str) -> tuple[str, float, float, str]:
    """Return what an inline drawing says it shows, its width and height, and what is in it."""
    found = re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]* aria-label="([^"]*)">', svg)
    width, height, told = found.groups()
    return told, float(width), float(height), svg[found.end() : svg.rindex("</svg>")]


def _legend(legend: Legend, width: float, top: float) -> Iterator[tuple[float, str]]:
    """Yield marks with their names, line by line, each with the height at which it stands."""
    x, y = _PAD, top
    for index, name in legend:
        needed = 16 + _LETTER * _TEXT * len(name)
        if x > _PAD and x + needed > _PAD + width:
            x, y = _PAD, y + _LINE
        path = MARKERS[index % len(MARKERS)][1]
        colour = f"var(--series-{index % SERIES_COUNT})"
        mark = f'<path transform="translate({x + 6:g} {y - 3.5:g})" d="{path}" fill="{colour}"/>'
        yield y, mark + _text(x + 15, y, name, "ink")
        x += needed + 12


def _text(x: float, y: float, text: str, role: str, *, heading: bool = False) -> str:
    style = f'font-size="{_TITLE}" font-weight="600"' if heading else f'font-size="{_TEXT}"'
    return f'<text x="{x:g}" y="{y:g}" {style} fill="var(--{role})">{escape(text)}</text>'


def _coloured(svg: str) -> str:
    """Put the light page's colours in the place of its variables, which few programs know."""
    light = _CSS.read_text(encoding="utf-8").partition("@media")[0]
    colours = dict(re.findall(r"(--[\w-]+): (#\w+);", light))
    return re.sub(r"var\((--[\w-]+)\)", lambda match: colours[match[1]], svg)
