"""The report's drawings, each a function from numbers to a `Plot`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.benchmarks.pareto import unbeaten
from edgecifar.benchmarks.report.svg import Plot, canvas, colour, render, series
from edgecifar.benchmarks.statistics import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# One shape a series besides its colour; five shapes and six colours repeat after thirty.
# Each is matplotlib's name and the same shape as an SVG path for the page's legend.
MARKERS = (
    ("o", "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0Z"),
    ("s", "M-4-4H4V4H-4Z"),
    ("D", "M0-5.5 5.5 0 0 5.5-5.5 0Z"),
    ("^", "M0-5 5 4H-5Z"),
    ("v", "M0 5 5-4H-5Z"),
)
MATRIX_TEXT = 20  # more classes than this leave no room for numbers in the cells
# Of errors of calibration, which a page may also give of a run's files.
AS_TRAINED = (
    "Of the network as trained: export divides the logits of what edgecifar trained by one number, "
    "so that a file's error is mostly smaller."
)


@dataclass(frozen=True)
class Point:
    """One model in a trade-off plot: a cost and top-1 in percent, with intervals if known."""

    index: int
    name: str
    cost: float
    top1: float
    cost_interval: tuple[float, float] | None = None
    top1_interval: tuple[float, float] | None = None


def trade_off(points: Sequence[Point], cost: str, unit: str, name: str) -> Plot:
    """Plot top-1 against `cost` (latency, size): up and left is better."""
    told = "; ".join(f"{p.name}: {p.top1:.2f} % at {p.cost:.3g} {unit}" for p in points)
    with canvas(3.3) as figure:
        axes = figure.subplots()
        _pareto_line(axes, points)
        for point in points:
            axes.errorbar(
                point.cost,
                point.top1,
                xerr=bars(point.cost, point.cost_interval),
                yerr=bars(point.top1, point.top1_interval),
                fmt=MARKERS[point.index % len(MARKERS)][0],
                color=series(point.index),
                markersize=8,
                elinewidth=1.3,
                capsize=3,
            )
        axes.set_xlabel(f"{cost} ({unit})")
        axes.set_ylabel("top-1 (%)")
        axes.margins(0.12)
        scale_cost(axes, [point.cost for point in points])
        svg = render(figure, name, alt=f"Top-1 accuracy against {cost}. {told}.")
    caption = "Up and left is better. Bars: 95 % intervals. Dotted: files that no other beats."
    return Plot(svg, f"Accuracy against {cost}", caption, marked=True)


def curve(history: Mapping[str, np.ndarray], quantity: str, best: int | None, name: str) -> Plot:
    """Plot `quantity` ("loss" or "accuracy") of training and validation over the epochs.

    Accuracies are fractions in history.csv and percent in the drawing. `best` is the epoch kept.
    """
    scale, unit = (100, " (%)") if quantity == "accuracy" else (1, "")
    told = []
    with canvas(2.9) as figure:
        axes = figure.subplots()
        for index, (column, label) in enumerate(
            [(quantity, "training"), (f"val_{quantity}", "validation")]
        ):
            if column not in history:
                continue
            values = history[column] * scale
            style = {"color": series(index), "linestyle": ("--", "-")[index], "label": label}
            axes.plot(
                history["epoch"], values, marker="o" if len(values) < 12 else "", ms=4, **style
            )
            end = f"{values[-1]:.1f} %" if scale > 1 else f"{values[-1]:.3f}"
            told.append(f"{label} ends at {end}")
        if best is not None:
            axes.axvline(best, color=colour("muted"), linewidth=1, linestyle=":")
            axes.annotate(
                "kept",
                (best, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=colour("muted"),
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{quantity}{unit}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=9, loc="best")
        svg = render(figure, name, alt=f"{quantity.title()} by epoch: {', '.join(told)}.")
    return Plot(svg, f"{quantity.title()} by epoch", f"{'; '.join(told).capitalize()}.")


def confusion(matrix: np.ndarray, classes: Sequence[str], *, rates: bool, name: str) -> Plot:
    """Draw a confusion matrix of counts, or of rates in percent of each true class."""
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    alt = f"Confusion matrix of {len(classes)} classes; on the diagonal " + ", ".join(
        f"{label} {value:.0%}" for label, value in zip(classes, share.diagonal(), strict=True)
    )
    with canvas(4.5) as figure:
        axes = figure.subplots()
        draw_cells(axes, share)
        if len(classes) <= MATRIX_TEXT:
            _cell_texts(axes, share, 100 * share if rates else matrix)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        _class_ticks(axes, classes)
        svg = render(figure, name, alt=alt)
    if rates:
        return Plot(
            svg, "Rates", "Percent of each true class. Colour grows with the root of the rate."
        )
    return Plot(svg, "Counts", "Images. Rows are true classes, columns what the model said.")


def per_class(scores: Sequence[Mapping[str, Any]], name: str) -> Plot:
    """Draw precision, recall and F1 of each class as bars, in percent."""
    kinds = ("precision", "recall", "f1")
    with canvas(0.9 + 0.42 * len(scores)) as figure:
        axes = figure.subplots()
        for offset, kind in enumerate(kinds):
            values = np.array([100 * score[kind] for score in scores])
            where = np.arange(len(scores)) + (offset - 1) * 0.26
            label = "F1" if kind == "f1" else kind
            axes.barh(where, values, height=0.22, color=series(offset), label=label)
        for row, score in enumerate(scores):
            axes.text(101.5, row, f"{100 * score['f1']:.1f}", va="center", fontsize=9)
        axes.set_yticks(range(len(scores)), [score["name"] for score in scores])
        axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))
        axes.invert_yaxis()
        axes.set(xlim=(0, 112), xlabel="percent", xticks=range(0, 101, 20))
        axes.grid(axis="y", visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
        told = ", ".join(f"{score['name']} {100 * score['f1']:.1f}" for score in scores)
        svg = render(figure, name, alt=f"F1 in percent by class: {told}.")
    return Plot(svg, "Precision, recall and F1 by class", "Numbers at the right are F1 in percent.")


def reliability(result: Calibration, name: str) -> Plot:
    """Draw accuracy against confidence, with the number of images in each bin beneath."""
    centres, width = (result.edges[:-1] + result.edges[1:]) / 2, np.diff(result.edges)[0] * 0.9
    filled, n = result.count > 0, int(result.count.sum())
    with canvas(4.0) as figure:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 1])
        top.bar(centres[filled], result.accuracy[filled], width, color=series(0), alpha=0.75)
        top.plot([0, 1], [0, 1], linestyle="--", color=colour("ink"), linewidth=1.2)
        top.plot(result.confidence[filled], result.accuracy[filled], "o", ms=4, color=series(1))
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        bottom.bar(centres, result.count, width, color=series(0), alpha=0.75)
        bottom.set(ylabel="images", xlabel="confidence of the prediction")
        alt = f"Reliability diagram of {n} images, expected calibration error {result.ece:.3f}."
        svg = render(figure, name, alt=alt)
    gap = np.nansum(result.count * (result.confidence - result.accuracy)) / n
    lean = "over-confident" if gap > 0 else "under-confident"
    caption = (
        f"Expected calibration error {100 * result.ece:.2f} points; {lean} by "
        f"{100 * abs(gap):.2f} points on average. On the dashed line, confidence is accuracy. "
        f"{AS_TRAINED}"
    )
    return Plot(svg, "Reliability", caption)


def bars(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    """Return an interval as the two lengths that matplotlib's error bars want."""
    if interval is None:
        return None
    # A bootstrap interval can lie beside its value by a rounding error; a bar can't be negative.
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]


def _pareto_line(axes: "Axes", points: Sequence[Point]) -> None:
    """Join the points that no other beats in both respects."""
    front = unbeaten(points, lambda point: point.cost, lambda point: point.top1)
    x, y = [p.cost for p in front], [p.top1 for p in front]
    axes.step(x, y, where="post", linestyle=":", color=colour("muted"), linewidth=1.2)


def scale_cost(axes: "Axes", costs: Sequence[float]) -> None:
    """Let the x axis begin at zero, or be logarithmic where costs lie far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    if max(costs) < 8 * min(costs):
        axes.set_xlim(0, 1.12 * max(costs))
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def draw_cells(axes: "Axes", share: np.ndarray) -> None:
    """Fill cells with the accent colour; the root of the share as opacity lets errors show."""
    from matplotlib.patches import Rectangle

    opacity = np.sqrt(share)
    for row, column in np.argwhere(opacity >= 0.02):  # fainter than that is not seen
        corner, alpha = (column - 0.48, row - 0.48), opacity[row, column]
        axes.add_patch(Rectangle(corner, 0.96, 0.96, color=colour("accent"), alpha=alpha, lw=0))
    size = len(share) - 0.5
    axes.set(xlim=(-0.5, size), ylim=(size, -0.5), aspect="equal")


def _cell_texts(axes: "Axes", share: np.ndarray, shown: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(shown):
        if round(value) or row == column:
            role = "on-accent" if share[row, column] > 0.5 else "ink"
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": colour(role)}
            axes.text(column, row, f"{value:.0f}", **style)


def _class_ticks(axes: "Axes", classes: Sequence[str]) -> None:
    step = 1 + (len(classes) - 1) // 40
    places, names = list(range(0, len(classes), step)), list(classes)[::step]
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelcolor=colour("ink"))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
