"""Drawings that set several runs beside each other; marks and colours are those of the legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
_REPORTED = {"marker": "|", "markersize": 15, "markeredgewidth": 2, "linestyle": ""}


Marked = tuple[int, Run]  # a run, and the number of its mark and colour
# How marks of one system are filled that are of different kinds of files, the float ones' first.
_FILLS = {"full": "filled", "none": "hollow", "left": "half filled"}


@dataclass(frozen=True)
class Side:
    """Several runs beside each other: their marks and names for the legend, and the drawings."""

    legend: tuple[tuple[int, str], ...]
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Standing:
    """Where a system stands: top-1 in percent as reported, and ours with intervals, if known.

    `index` is that of its mark and colour in the legend, None if it isn't there.
    """

    index: int | None
    name: str
    reported: float | None
    ours: Mapping[str, tuple[float, tuple[float, float] | None]]  # by kinds of files


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
    caption = (
        "On the dashed line, confidence is accuracy. Bins of fewer than 10 images left out. "
        f"{figures.AS_TRAINED}"
    )
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
    systems: Sequence[Standing],
    kinds: Sequence[str],
    name: str,
    title: str = "Accuracy of each model",
) -> Plot:
    """Draw top-1 of each system with its interval, beside what is reported of it elsewhere.

    `kinds` are those that systems may have ours of, each of which has a fill of its own.
    """
    fills = dict(zip(kinds, _FILLS, strict=False))
    shown = [kind for kind in kinds if any(kind in system.ours for system in systems)]
    with canvas(0.9 + 0.5 * len(systems)) as figure:
        axes = figure.subplots()
        for row, system in enumerate(systems):
            if system.reported is not None:
                axes.plot(system.reported, row, **_REPORTED, color=colour("ink"))
            for kind, (top1, span) in system.ours.items():
                axes.errorbar(
                    top1,
                    row + 0.22 * (shown.index(kind) - (len(shown) - 1) / 2),
                    xerr=figures.bars(top1, span),
                    **_filled(system.index, fills[kind]),
                    ms=7,
                    capsize=3,
                    elinewidth=1.3,
                )
        _key(
            axes,
            {kind: fills[kind] for kind in shown},
            reported=any(system.reported is not None for system in systems),
        )
        axes.set_yticks(range(len(systems)), [_wrapped(system.name) for system in systems])
        axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))
        axes.set(ylim=(len(systems) - 0.5, -0.5), xlabel="top-1 (%)")
        told = "; ".join(_standing(system) for system in systems)
        svg = render(figure, name, alt=f"Top-1 in percent. {told}.")
    return Plot(svg, title, "Bars: 95 % intervals, as in the table.")


def trade_offs(
    kinds: Mapping[str, Sequence[Point]], cost: str, unit: str, name: str
) -> Plot | None:
    """Plot top-1 against `cost` of each kind of file, with a system's files joined.

    A kind has the fill that it has in `standings`, if that is given the same kinds.
    """
    fills = dict(zip(kinds, _FILLS, strict=False))
    points = [(point, fills[kind]) for kind, found in kinds.items() for point in found]
    if len(points) < 2:
        return None
    told = "; ".join(f"{p.name}: {p.top1:.2f} % at {p.cost:.3g} {unit}" for p, _ in points)
    with canvas(3.3) as figure:
        axes = figure.subplots()
        for index in {p.index for p, _ in points}:
            own = [p for p, _ in points if p.index == index]
            line = {"color": series(index), "linewidth": 1, "alpha": 0.6}
            axes.plot([p.cost for p in own], [p.top1 for p in own], **line)
        for p, fill in points:
            style = {"ms": 8, "elinewidth": 1.2, "capsize": 3, **_filled(p.index, fill)}
            axes.errorbar(p.cost, p.top1, yerr=figures.bars(p.top1, p.top1_interval), **style)
        axes.set(xlabel=f"{cost} ({unit})", ylabel="top-1 (%)")
        axes.margins(0.12)
        figures.scale_cost(axes, [p.cost for p, _ in points])
        svg = render(figure, name, alt=f"Top-1 accuracy against {cost}. {told}.")
    shown = ", ".join(f"{_FILLS[fills[kind]]}: {kind}" for kind, found in kinds.items() if found)
    caption = f"Up and left is better. {shown.capitalize()}. Bars: 95 % intervals."
    return Plot(svg, f"Accuracy against {cost}", caption, marked=True)


def _kept(run: Run, values: np.ndarray) -> tuple[list[float], list[float]]:
    epochs, best = run.history["epoch"], run.info.get("best_epoch")
    where = np.flatnonzero(epochs == best)
    place = int(where[0]) if len(where) else len(epochs) - 1
    return [epochs[place]], [values[place]]


def _mark(index: int) -> str:
    return MARKERS[index % len(MARKERS)][0]


def _filled(index: int | None, fill: str) -> dict[str, Any]:
    """Return the style of a system's mark, filled as matplotlib calls it; of none a circle."""
    shape, tint = ("o", colour("accent")) if index is None else (_mark(index), series(index))
    thick = {} if fill == "full" else {"markeredgewidth": 1.6}
    return {"marker": shape, "color": tint, "linestyle": "", "fillstyle": fill, **thick}


def _wrapped(name: str, width: int = 17) -> str:
    from textwrap import fill

    return fill(name, width)


def _standing(system: Standing) -> str:
    told = [f"{kind} {top1:.2f}" for kind, (top1, _) in system.ours.items()]
    told += [f"reported {system.reported:.2f}"] if system.reported is not None else []
    return f"{system.name}: {', '.join(told)}"


def _key(axes: "Axes", fills: Mapping[str, str], *, reported: bool) -> None:
    """Name the fills of marks above the drawing, if there are several to be told apart."""
    from matplotlib.lines import Line2D

    grey = {"color": colour("muted")}  # which no system has
    marks = [
        Line2D([], [], label=kind, **_filled(None, fill) | grey) for kind, fill in fills.items()
    ]
    if reported:
        marks.append(Line2D([], [], label="reported", color=colour("ink"), **_REPORTED))
    if len(marks) < 2:
        return
    wide = sum(len(mark.get_label()) + 6 for mark in marks) > _KEY_LETTERS
    where = {"loc": "outside upper center", "ncols": 2 if wide else len(marks), "frameon": False}
    axes.figure.legend(handles=marks, fontsize=9, **where)
