"""Drawings that set several runs beside each other; marks and colours are those of the legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.benchmarks.report import figures
from edgecifar.benchmarks.report.figures import MARKERS, Point
from edgecifar.benchmarks.report.load import Run
from edgecifar.benchmarks.report.svg import Plot, canvas, colour, render, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3  # confusion matrices beside each other
_KEY_LETTERS = 54  # that fit into a line of a key, of which each mark takes some
_MOST_CLASSES = 20  # of which each still has a line of its own


Marked = tuple[int, Run]  # a run, and the number of its mark and colour


@dataclass(frozen=True)
class Side:
    """Several runs beside each other: their marks and names for the legend, and the drawings."""

    legend: tuple[tuple[int, str], ...]
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Standing:
    """Where a system stands: top-1 in percent as reported, and ours with intervals, if known."""

    index: int
    name: str
    reported: float | None
    ours: Mapping[str, tuple[float, tuple[float, float] | None]]  # by what it is of


def side_by_side(runs: Sequence[Marked], key: str) -> Side:
    """Draw all that several runs have in common; what a run doesn't have is left out."""
    legend = tuple((index, run.name) for index, run in runs)
    plots = [curves(runs, quantity, f"{key}-{quantity}") for quantity in ("accuracy", "loss")]
    plots.append(class_scores(runs, f"{key}-f1"))
    plots.append(reliability(runs, f"{key}-reliability"))
    plots.append(matrices(runs, f"{key}-matrices"))
    return Side(legend, tuple(plot for plot in plots if plot))


def curves(runs: Sequence[Marked], quantity: str, name: str) -> Plot | None:
    """Draw `quantity` of validation, and thinner of training, over the epochs of each run."""
    scale, unit = (100, " (%)") if quantity == "accuracy" else (1, "")
    drawn = [(i, run) for i, run in runs if len(run.history.get(quantity, ()))]
    if not drawn:
        return None
    told = []
    with canvas(3.3) as figure:
        axes = figure.subplots()
        for index, run in drawn:
            epochs, style = run.history["epoch"], {"color": series(index)}
            training = run.history[quantity] * scale
            axes.plot(epochs, training, linestyle="--", linewidth=0.9, alpha=0.7, **style)
            values = run.history.get(f"val_{quantity}")
            if values is None:
                continue
            axes.plot(epochs, values * scale, linewidth=1.5, **style)
            axes.plot(*_kept(run, values * scale), _mark(index), ms=7, **style)
            told.append(f"{run.name} {values[-1] * scale:.3g}")
        axes.set(xlabel="epoch", ylabel=f"{quantity}{unit}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        alt = f"{quantity.title()} of validation at the last epoch: {', '.join(told)}."
        svg = render(figure, name, alt=alt)
    caption = "Solid: validation images. Dashed: training images, augmented. Mark: epoch kept."
    if quantity == "loss":
        caption += " Each as its recipe has it, with label smoothing and L2."
    return Plot(svg, f"{quantity.title()} by epoch", caption, marked=True)


def class_scores(runs: Sequence[Marked], name: str) -> Plot | None:
    """Draw the F1 score of each class and run."""
    scores = [
        (index, run, run.metrics.get(run.split or "", {}).get("per_class") or [])
        for index, run in runs
    ]
    classes = next((tuple(s["name"] for s in found) for _, _, found in scores if found), ())
    if not classes or len(classes) > _MOST_CLASSES:
        return None
    with canvas(0.9 + 0.33 * len(classes)) as figure:
        axes = figure.subplots()
        places = np.arange(len(classes))
        for index, _, found in scores:
            if tuple(s["name"] for s in found) == classes:
                values = [100 * score["f1"] for score in found]
                axes.plot(values, places, _mark(index), color=series(index), ms=7, alpha=0.9)
        axes.set_yticks(places, classes)
        axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))
        axes.invert_yaxis()
        axes.set_xlabel("F1 (%)")
        means = ", ".join(
            f"{run.name} {100 * np.mean([s['f1'] for s in found]):.1f}"
            for _, run, found in scores
            if found
        )
        svg = render(figure, name, alt=f"F1 in percent, mean over classes: {means}.")
    caption = "The harmonic mean of precision and recall, which stand with each run."
    return Plot(svg, "F1 by class", caption, marked=True)


def reliability(runs: Sequence[Marked], name: str) -> Plot | None:
    """Draw accuracy against confidence of each run."""
    known = [(i, run) for i, run in runs if run.calibration is not None]
    if not known:
        return None
    with canvas(3.3) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], linestyle="--", color=colour("ink"), linewidth=1.0)
        for index, run in known:
            found, enough = run.calibration, run.calibration.count >= 10
            style = {"color": series(index), "linewidth": 1.3, "ms": 5}
            confidence, accuracy = found.confidence[enough], found.accuracy[enough]
            axes.plot(confidence, accuracy, f"{_mark(index)}-", **style)
        axes.set(xlabel="confidence of the prediction", ylabel="accuracy", xlim=(0, 1.02))
        axes.set_ylim(0, 1.02)
        told = ", ".join(f"{run.name} {100 * run.calibration.ece:.2f}" for _, run in known)
        svg = render(figure, name, alt=f"Expected calibration error in points: {told}.")
    caption = "On the dashed line, confidence is accuracy. Bins of fewer than 10 images left out."
    return Plot(svg, "Reliability", caption, marked=True)


def matrices(runs: Sequence[Marked], name: str) -> Plot | None:
    """Draw the confusion matrices of all runs as small multiples, in rates."""
    found = [
        (run, np.array(run.metrics[run.split]["confusion"]))
        for _, run in runs
        if run.split and run.metrics[run.split].get("confusion")
    ]
    if not found:
        return None
    columns = min(_COLUMNS, len(found))
    rows = -(-len(found) // columns)
    with canvas((0.6 + 4.2 / columns) * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (run, matrix) in zip(panels, found, strict=False):
            figures.draw_cells(axes, matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))
            axes.set_title(_wrapped(run.name), fontsize=8, color=colour("ink"))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            axes.grid(visible=False)
        for axes in panels[len(found) :]:
            axes.set_visible(False)
        svg = render(figure, name, alt=f"Confusion matrices of {len(found)} runs, in rates.")
    first = found[0][0].classes
    order = f", from {first[0]} to {first[-1]}" if first else ""
    caption = f"Rows are true classes, columns predictions{order}. Numbers stand with each run."
    return Plot(svg, "Confusion matrices", caption)


def standings(
    systems: Sequence[Standing], name: str, title: str = "Accuracy of each model"
) -> Plot:
    """Draw top-1 of each system with its interval, beside what is reported of it elsewhere."""
    kinds = list(dict.fromkeys(kind for system in systems for kind in system.ours))
    with canvas(0.9 + 0.5 * len(systems)) as figure:
        axes = figure.subplots()
        for row, system in enumerate(systems):
            if system.reported is not None:
                axes.plot(system.reported, row, "d", ms=9, mfc="none", mec=colour("ink"), mew=1.3)
            for kind, (top1, span) in system.ours.items():
                place = kinds.index(kind)
                axes.errorbar(
                    top1,
                    row + 0.22 * (place - (len(kinds) - 1) / 2),
                    xerr=figures.bars(top1, span),
                    fmt=MARKERS[place][0],
                    color=series(place),
                    ms=7,
                    capsize=3,
                    elinewidth=1.3,
                )
        _key(axes, kinds, reported=any(system.reported is not None for system in systems))
        axes.set_yticks(range(len(systems)), [_wrapped(system.name) for system in systems])
        axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))
        axes.set(ylim=(len(systems) - 0.5, -0.5), xlabel="top-1 (%)")
        told = "; ".join(_standing(system) for system in systems)
        svg = render(figure, name, alt=f"Top-1 in percent. {told}.")
    return Plot(svg, title, "Bars: 95 % intervals, as in the table.")


def pairs(
    floats: Sequence[Point], small: Sequence[Point], cost: str, unit: str, name: str
) -> Plot | None:
    """Plot top-1 against `cost` of float files (filled) and int8 files (hollow), joined."""
    if len(floats) + len(small) < 2:
        return None
    told = "; ".join(f"{p.name}: {p.top1:.2f} % at {p.cost:.3g} {unit}" for p in (*floats, *small))
    with canvas(3.3) as figure:
        axes = figure.subplots()
        for point in floats:
            for other in (p for p in small if p.index == point.index):
                both = (point.cost, other.cost), (point.top1, other.top1)
                axes.plot(*both, color=series(point.index), linewidth=1, alpha=0.6)
        for points, fill in ((floats, {}), (small, {"mfc": "none", "mew": 1.6})):
            for p in points:
                style = {"color": series(p.index), "ms": 8, "elinewidth": 1.2, "capsize": 3, **fill}
                spans = {"yerr": figures.bars(p.top1, p.top1_interval)}
                axes.errorbar(p.cost, p.top1, fmt=_mark(p.index), **spans, **style)
        axes.set(xlabel=f"{cost} ({unit})", ylabel="top-1 (%)")
        axes.margins(0.12)
        figures.scale_cost(axes, [p.cost for p in (*floats, *small)])
        svg = render(figure, name, alt=f"Top-1 accuracy against {cost}. {told}.")
    caption = "Up and left is better. Filled: float32, hollow: int8. Bars: 95 % intervals."
    return Plot(svg, f"Accuracy against {cost}", caption, marked=True)


def _kept(run: Run, values: np.ndarray) -> tuple[list[float], list[float]]:
    epochs, best = run.history["epoch"], run.info.get("best_epoch")
    where = np.flatnonzero(epochs == best)
    place = int(where[0]) if len(where) else len(epochs) - 1
    return [epochs[place]], [values[place]]


def _mark(index: int) -> str:
    return MARKERS[index % len(MARKERS)][0]


def _wrapped(name: str, width: int = 17) -> str:
    from textwrap import fill

    return fill(name, width)


def _standing(system: Standing) -> str:
    told = [f"{kind} {top1:.2f}" for kind, (top1, _) in system.ours.items()]
    told += [f"reported {system.reported:.2f}"] if system.reported is not None else []
    return f"{system.name}: {', '.join(told)}"


def _key(axes: "Axes", kinds: Sequence[str], *, reported: bool) -> None:
    """Name the marks above the drawing."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker=MARKERS[i][0], color=series(i), linestyle="", label=kind)
        for i, kind in enumerate(kinds)
    ]
    if reported:
        style = {"marker": "d", "mfc": "none", "mec": colour("ink"), "linestyle": ""}
        marks.append(Line2D([], [], label="reported", **style))
    wide = sum(len(mark.get_label()) + 6 for mark in marks) > _KEY_LETTERS
    where = {"loc": "outside upper center", "ncols": 2 if wide else len(marks), "frameon": False}
    axes.figure.legend(handles=marks, fontsize=9, **where)
