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
from edgecifar.runtime.errors import EdgecifarError

MARKS = [
    Mark("ours", "nano", 91.5, 70.0, (90.9, 92.0)),
    Mark("ours", "small", 95.3, 400.0, (94.9, 95.7)),
    Mark("ours", "base", 96.3, 700.0, (95.9, 96.7)),
    Mark("peer", "ResNet-8 int8", 87.0, 79.5, (86.3, 87.6)),
    Mark("peer", "ResNet-8 float32", 87.2, 256.7, (86.5, 87.8)),
    Mark("peer", "large int8", 91.3, 428.5, (90.7, 91.8)),
    Mark("peer", "large float32", 91.3, 1962.1, (90.7, 91.8)),
    Mark("reported", "Baseline", 77.0, 60.0),
    Mark("reported", "A & B", 95.24, 1900.0),
    Mark("measured", "C", 95.3, 1700.0, (94.9, 95.7)),
    Mark("measured", "D", 95.0, 1600.0, (94.6, 95.4)),
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
    assert written >= {f"{mark.label} {mark.top1:.1f}" for mark in MARKS}
    assert written >= {"seed report, ours", "reported", "100", "1,000"}


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
    assert "Baseline: 77.00 %, as reported, at 60 us" in title


def _row(name, latency, accuracy=None):
    return {
        "file": f"{name}.tflite",
        "sha256": name,
        "latency_us": {"median": latency},
        "ratio": {"value": latency, "low": latency, "high": latency},
        "accuracy": accuracy,
    }


RESULT = {"models": [_row("shared", 50.0)]}
UNTRAINED = {  # measured on a machine that is half as fast
    "models": [
        _row("advanced-32-float32", 900.0),
        _row("efficientnetv2b0-96-float32", 2000.0),
        _row("efficientnet_lite0-128-float32", 1800.0),
        _row("shared", 100.0),
    ]
}
STUDY = Study(
    "s",
    (
        Member("advanced-as-reported", "Advanced, as reported", 90.0),
        Member("advanced", "Advanced, ours", 90.0),
        Member("efficientnetv2b0", "V2, transfer", 90.0),
        Member("efficientnet_lite0", "Lite, transfer", 90.0, stands_in=True),
    ),
)


def _done(recipe, top1, validation):
    accuracy = {"top1": top1, "low": top1 - 1, "high": top1 + 1}
    return {
        "recipe": recipe,
        "mean": {"float": {"top1": top1, "low": None, "high": None, "seeds": 1}},
        "runs": [
            {
                "files": [{"role": "float", "sha256": "x", "accuracy": accuracy}],
                "metrics": {"validation": {"top1": validation}},
            }
        ],
    }


def test_what_was_not_trained_is_as_reported_and_has_its_own_latency():
    shown = marks(RESULT, (), STUDY, {"members": []}, UNTRAINED)
    assert shown == [
        Mark("reported", "Advanced", 90.0, 450.0),
        Mark("reported", "V2", 90.0, 1000.0),  # and not what may stand in for it
    ]


def test_the_better_recipe_on_validation_images_is_shown():
    members = [
        _done("advanced-as-reported", 92.0, 88.0),
        _done("advanced", 91.0, 89.0),
        _done("efficientnet_lite0", 95.0, 95.0),
    ]
    assert marks(RESULT, (), STUDY, {"members": members}, UNTRAINED) == [
        Mark("measured", "Advanced", 91.0, 450.0, (90.0, 92.0)),
        Mark("reported", "V2", 90.0, 1000.0),
        Mark("measured", "Lite", 95.0, 900.0, (94.0, 96.0)),
    ]


def test_several_seeds_have_the_interval_of_their_mean():
    done = _done("advanced", 91.0, 89.0)
    done["mean"]["float"] = {"top1": 91.2, "low": 91.0, "high": 91.4, "seeds": 3}
    mark, *_ = marks(RESULT, (), STUDY, {"members": [done]}, UNTRAINED)
    assert (mark.top1, mark.interval) == (91.2, (91.0, 91.4))


def test_a_system_without_latency_names_its_mend():
    lacking = {"models": UNTRAINED["models"][1:]}
    with pytest.raises(EdgecifarError, match=r"advanced-32-float32\.tflite was not measured"):
        marks(RESULT, (), STUDY, {"members": []}, lacking)
    with pytest.raises(EdgecifarError, match="no file of the systems' bench"):
        marks({"models": []}, (), STUDY, {"members": []}, UNTRAINED)


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
    svg = draw([Mark("ours", "a", 80, 10.0, (79, 81)), Mark("ours", "b", 90, 100.0, (89, 91))])
    circles = re.findall(r'<circle class="ours" cx="([\d.]+)" cy="([\d.]+)"', svg)
    # The first is the legend's.
    (ax, ay), (bx, by) = [tuple(map(float, each)) for each in circles[1:]]
    assert ax < bx
    assert ay > by
