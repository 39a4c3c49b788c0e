"""The README's picture with marks that are made to collide."""

import os
import re
import subprocess
import sys
from itertools import combinations
from xml.etree import ElementTree

import pytest

from edgecifar.benchmarks.documents.picture import Box, draw
from edgecifar.benchmarks.documents.systems import Mark, marks
from edgecifar.benchmarks.study.plan import Member, Study

MARKS = [
    Mark("ours", "nano", 91.5, (90.9, 92.0), 70.0),
    Mark("ours", "small", 95.3, (94.9, 95.7), 400.0),
    Mark("ours", "base", 96.3, (95.9, 96.7), 700.0),
    Mark("peer", "ResNet-8 int8", 87.0, (86.3, 87.6), 79.5),
    Mark("peer", "ResNet-8 float32", 87.2, (86.5, 87.8), 256.7),
    Mark("peer", "large int8", 91.3, (90.7, 91.8), 428.5),
    Mark("peer", "large float32", 91.3, (90.7, 91.8), 1962.1),
    Mark("reported", "Baseline", 77.0),
    Mark("reported", "A & B", 95.24),
    Mark("measured", "C", 95.3),
    Mark("measured", "D", 95.0),
]


@pytest.fixture(scope="module")
def texts():
    """Text and box of everything written, from fonts narrower than the drawing allows for."""
    found = []
    for element in ElementTree.fromstring(draw(MARKS)).iter():
        if element.tag.endswith("}text"):
            x, y = float(element.get("x")), float(element.get("y"))
            width = 7 * len(element.text)
            left = x - {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor")]
            found.append((element.text, Box(left, y - 10, left + width, y)))
    return found


def test_every_system_is_named(texts):
    written = {text for text, _ in texts}
    assert written >= {f"{mark.label} {mark.top1:.1f}" for mark in MARKS[:7]}
    assert written >= {"Baseline", "77.0 reported", "A & B", "95.2 reported", "100", "1,000"}


def test_no_text_covers_another(texts):
    for (first, one), (second, other) in combinations(texts, 2):
        assert not one.overlaps(other), f"{first!r} and {second!r}"


def test_all_lies_within_the_picture(texts):
    _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', draw(MARKS))[1].split())
    assert all(box.within(Box(0, 0, width, height)) for _, box in texts)


def test_it_suits_light_and_dark_and_tells_readers_who_can_t_see(texts):
    svg = draw(MARKS)
    assert "prefers-color-scheme:dark" in svg
    title = ElementTree.fromstring(svg)[0].text
    assert "nano: 91.50 % at 70 us" in title
    assert "Baseline: 77.00 %, as reported" in title


def test_a_system_that_was_measured_is_no_longer_as_reported():
    study = Study(
        "s",
        (
            Member("a", "a, as reported", 90.0, system="b"),
            Member("b", "b, ours", 90.0, system="b"),
            Member("c", "c", 90.0),  # the same number, another system
        ),
    )
    assert [(m.kind, m.label, m.top1) for m in marks({"models": []}, (), study)] == [
        ("reported", "a", 90.0),
        ("reported", "c", 90.0),
    ]
    file = {"role": "float", "sha256": "x"}
    done = [
        {"recipe": recipe, "label": f"{recipe}, ours", "mean": {"float": {"top1": top1}},
         "runs": [{"files": [file], "metrics": {"validation": {"top1": validation}}}]}
        for recipe, top1, validation in (("a", 92.0, 88.0), ("b", 91.0, 89.0))
    ]  # fmt: skip
    # Of two recipes the one that is better on validation images, not on those of the test.
    mark, other = marks({"models": []}, (), study, {"members": done})
    assert (mark.kind, mark.label, mark.top1, mark.latency) == ("measured", "b", 91.0, None)
    assert (other.kind, other.label) == ("reported", "c")
    accuracy = {"top1": 91.5, "low": 91.0, "high": 92.0}
    row = {"file": "b.tflite", "sha256": "x", "latency_us": {"median": 9.0}, "accuracy": accuracy}
    mark, _ = marks({"models": [row]}, (), study, {"members": done})
    assert (mark.kind, mark.top1, mark.latency) == ("measured", 91.5, 9.0)
    assert draw([mark]).count('<path class="muted"') == 2  # in the legend and in the drawing
    mark, _ = marks({"models": []}, (), study, {"members": done[:1]})
    assert (mark.kind, mark.label) == ("stand-in", "a")  # which is not called b


def test_the_same_figures_give_the_same_bytes():
    """Also in another process, where sets and hashes have another order."""
    script = (
        "from edgecifar.benchmarks.documents.picture import draw; "
        "from edgecifar.benchmarks.documents.systems import Mark; "
        f"print(draw({MARKS!r}), end='')"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    drawn = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert drawn.stdout == draw(MARKS)


def test_better_is_further_up_and_faster_further_left():
    svg = draw([Mark("ours", "a", 80, (79, 81), 10.0), Mark("ours", "b", 90, (89, 91), 100.0)])
    circles = re.findall(r'<circle class="ours" cx="([\d.]+)" cy="([\d.]+)"', svg)
    # The first is the legend's.
    (ax, ay), (bx, by) = [tuple(map(float, each)) for each in circles[1:]]
    assert ax < bx
    assert ay > by
