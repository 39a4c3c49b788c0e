"""Drawings that set several runs beside each other: whose marks are whose."""

import re

from edgecifar.benchmarks.report import many
from edgecifar.benchmarks.report.figures import Point
from edgecifar.benchmarks.report.many import Standing

KINDS = ("float32", "int8 fine-tuned", "int8 post-training")


def series(plot):
    return set(re.findall(r"var\(--series-(\d)\)", plot.svg))


def test_a_system_has_its_own_colour_whatever_the_kind_of_file():
    ours = dict.fromkeys(KINDS, (90.0, (89.0, 91.0)))
    systems = [Standing(4, "four", 88.0, ours), Standing(6, "six", None, {"float32": (91.0, None)})]
    assert series(many.standings(systems, KINDS, "k")) == {"4", "6"}
    steps = [Standing(None, "1. a step", None, {"top-1": (90.0, (89.0, 91.0))})]
    alone = many.standings(steps, ["top-1"], "k")
    assert series(alone) == set(), "no system's"
    assert ">top-1<" not in alone.svg, "there is nothing to be told apart"


def test_a_kind_of_file_has_the_same_fill_in_both_drawings(monkeypatch):
    drawn = []
    filled = many._filled

    def watched(index, fill):
        drawn.append((index, fill))
        return filled(index, fill)

    monkeypatch.setattr(many, "_filled", watched)
    spans = {"float32": (90.0, None), "int8 post-training": (89.0, None)}  # and none fine-tuned
    many.standings([Standing(2, "two", None, spans)], KINDS, "k")
    first = [each for each in drawn if each[0] == 2]
    drawn.clear()
    points = {kind: [Point(2, kind, 5.0, top1)] for kind, (top1, _) in spans.items()}
    plot = many.trade_offs(dict.fromkeys(KINDS, ()) | points, "size", "kB", "k")
    assert drawn == first == [(2, "full"), (2, "left")]
    assert series(plot) == {"2"}
    assert "Filled: float32, half filled: int8 post-training. Bars" in plot.caption


def test_a_single_file_is_no_trade_off():
    assert many.trade_offs({"float32": [Point(0, "a", 5.0, 90.0)]}, "size", "kB", "k") is None
