from pathlib import Path

import pytest

from edgecifar.benchmarks import words
from edgecifar.benchmarks.targets import Target, read_targets, targets_table
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import read

ROOT = Path(__file__).parents[2]
OURS, FLOAT = "resnet8.tflite", "resnet8-float32.tflite"


@pytest.fixture(scope="module")
def result():
    """A bench in which the int8 file has 88.96 % in a third of the time, its float form 89.07 %."""
    found = read(ROOT / "benchmarks/results/vnni.json")
    rows = [row | {"zipped_bytes": row["payload_bytes"] - 1000} for row in found["models"]]
    return found | {"models": rows}


def row_of(result, **asked):
    line = targets_table(result, (Target(OURS, FLOAT, **asked),)).splitlines()[-1]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_everything_is_shown_and_nothing_judged_that_was_not_asked(result):
    file, against, top1, points, same, faster, size, zipped, verdict = row_of(result)
    assert (file, against, top1, verdict) == (f"`{OURS}`", f"`{FLOAT}`", "88.96 %", "")
    assert points.startswith(f"{words.signed(-0.11)} ({words.signed(-0.2)[:-1]}")
    medians = {row["file"]: row["latency_us"]["median"] for row in result["models"]}
    assert float(faster.split("x")[0]) == pytest.approx(medians[FLOAT] / medians[OURS], rel=0.02)
    assert (size, zipped) == ("0.30x", "0.30x")
    assert 90 < float(same.removesuffix(" %")) < 100


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ({"points": -0.11, "top1": 88.9}, "met"),
        ({"points": -0.10}, "**missed: points**"),
        ({"top1": 89.0}, "**missed: top-1**"),
        ({"agreement": 99.99}, "**missed: same answers**"),
        ({"faster": 3.0, "bytes": 0.31, "zipped": 0.31}, "met"),
        ({"faster": 3.5, "bytes": 0.31}, "**missed: speed**"),
        ({"points": -1.0, "bytes": 0.3, "zipped": 0.2}, "**missed: bytes, zipped bytes**"),
    ],
)
def test_a_target_is_met_or_missed(result, asked, verdict):
    cells = row_of(result, **asked)
    assert cells[-1] == verdict
    assert sum(", asked " in cell for cell in cells) == len(asked)


def test_doubtful_times_reach_no_speed(result):
    cells = row_of(result | {"valid": False}, faster=1.0, points=-1.0)
    assert cells[-1] == "**missed: speed (by doubtful times)**"
    assert any("asked 1.00x" in cell for cell in cells)


@pytest.mark.parametrize("asked", ["nan", "-inf"])
def test_what_is_asked_is_a_number(asked):
    with pytest.raises(EdgecifarError, match=r"faster is .*: it must be a finite number"):
        Target(OURS, FLOAT, faster=float(asked))


def test_speed_can_be_asked_of_files_without_accuracy(result):
    rows = [row | {"accuracy": None} for row in result["models"]]
    timed = result | {"models": rows, "data": None}
    _, _, faster, size, zipped, verdict = row_of(timed, faster=3.0)  # the others have no column
    assert (faster.endswith("asked 3.00x"), verdict) == (True, "met")
    assert {size, zipped} == {"0.30x"}
    assert row_of(timed, points=-9.0)[-1] == "**missed: points**"
    assert row_of(timed, top1=1.0)[-1] == "**missed: top-1**"


def test_a_bench_that_did_not_compress_has_no_zipped_bytes(result):
    rows = [{key: row[key] for key in row if key != "zipped_bytes"} for row in result["models"]]
    older = result | {"models": rows}
    *_, size, verdict = row_of(older, top1=80.0)
    assert (size, verdict) == ("0.30x", "met")
    *_, zipped, verdict = row_of(older, zipped=1.0)
    assert (zipped, verdict) == (f"{words.NOTHING}, asked 1.00x", "**missed: zipped bytes**")


def test_the_answers_that_agree_are_counted_image_by_image(result):
    table = targets_table(result, (Target(OURS, OURS, points=0.0, agreement=100.0),))
    assert "100.00 %, asked 100.00 %" in table
    assert table.endswith("| met |\n")


def test_a_target_that_is_just_reached_is_met(result):
    """Shares times a hundred lie a hair beside the decimals that are asked for."""
    rows = [row | {"accuracy": row["accuracy"] | {"top1": 100 * 0.954}} for row in result["models"]]
    assert 100 * 0.954 < 95.4
    assert row_of(result | {"models": rows}, top1=95.4)[-1] == "met"
    assert row_of(result | {"models": rows}, top1=95.41)[-1] == "**missed: top-1**"


def test_what_is_asked_keeps_its_places(result):
    """Rounded it might look reached, or be another figure than the one that is written beside."""
    cells = row_of(result, bytes=0.305, faster=2.904, points=-0.125, top1=88.125)
    told = [cell.split(", asked ")[1] for cell in cells if ", asked " in cell]
    assert told == ["88.125 %", f"{words.MINUS}0.125", "2.904x", "0.305x"]


def test_a_file_that_was_measured_in_two_ways_has_no_target(result):
    twice = [row | {"threads": count} for row in result["models"] for count in (1, 4)]
    with pytest.raises(EdgecifarError, match=f"'{OURS}' was measured 2 times: bench files"):
        row_of(result | {"models": twice}, faster=2.0)


def test_a_file_that_was_not_measured_is_named(result):
    with pytest.raises(EdgecifarError, match=r"no file 'resnet9'.*resnet8"):
        targets_table(result, (Target("resnet9", FLOAT),))


def test_a_file_of_targets_is_read(tmp_path):
    path = tmp_path / "targets.toml"
    path.write_text('[[targets]]\nfile = "a"\nagainst = "b"\nfaster = 2\n')
    assert read_targets(path) == (Target("a", "b", faster=2.0),)
    path.write_text('[[targets]]\nfile = "a"\nagainst = "b"\nfastr = 2\n')
    with pytest.raises(EdgecifarError, match=r"unknown setting targets.*fastr.*faster"):
        read_targets(path)
    with pytest.raises(EdgecifarError, match=r"other\.toml is missing"):
        read_targets(tmp_path / "other.toml")
