import json
from pathlib import Path

import pytest

from edgecifar.benchmarks.against import versus
from edgecifar.benchmarks.documents.cards import card
from edgecifar.benchmarks.documents.readme import fill, measured, paired
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import read, seal
from edgecifar.train import zoo
from edgecifar.train.zoo import Shipped

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def result():
    return read(ROOT / "benchmarks/results/shipped.json")


@pytest.fixture(scope="module")
def resnet8():
    return zoo.find("resnet8")


def test_a_file_meets_the_peer_of_its_size(result, resnet8):
    found = versus(result, resnet8.info["int8"]["sha256"])
    assert found.peer_name == "MLPerf Tiny's ResNet-8 int8"
    test = found.difference.test
    gap = found.ours["accuracy"]["top1"] - found.peer["accuracy"]["top1"]
    assert found.difference.points == pytest.approx(gap)
    assert (test.only_second - test.only_first) / 100 == pytest.approx(gap)
    medians = [row["latency_us"]["median"] for row in (found.ours, found.peer)]
    assert found.latency.value == pytest.approx(medians[0] / medians[1], rel=0.01)
    assert found.latency.low < found.latency.value < found.latency.high


@pytest.mark.parametrize(
    ("size", "peer"),
    [
        (98_497, "large int8"),
        (512_024, "large int8"),
        (2_200_000, "large int8, the largest it has"),
    ],
)
def test_a_larger_file_meets_the_larger_peer(result, resnet8, size, peer):
    rows = [dict(row) for row in result["models"]]
    ours = next(row for row in rows if row["sha256"] == resnet8.info["int8"]["sha256"])
    ours["payload_bytes"] = size
    found = versus(result | {"models": rows}, ours["sha256"])
    assert found.peer_name.endswith(peer)


def test_a_card_tells_how_far_luck_goes_or_that_it_is_not_known(result, resnet8):
    assert "| top-1 % with another seed | not trained | not trained |" in card(resnet8, result)
    nano = next(model for model in zoo.entries() if model.name == "nano")
    assert "| top-1 % with seed 1 | 90.39 " in card(nano, result)
    assert "another seed" not in card(nano, result)


def test_a_card_of_a_file_that_was_not_measured_compares_nothing(result, resnet8):
    whole = card(resnet8, result)
    assert "## Against MLPerf Tiny's ResNet-8 int8" in whole
    without = card(resnet8, result | {"models": []})
    assert "## Against" not in without
    assert "µs" not in without
    assert "| cat | 1,000 |" in without


def test_a_card_tells_of_teachers_and_other_seeds(result, resnet8):
    info = resnet8.info
    taught = {"runs": ["small"], "models": ["0" * 64], "weight": 0.9, "temperature": 3.0}
    run = info["float"]["run"] | {"teacher": taught}
    repeat = {"seed": 7, "float": resnet8.test("float"), "int8": resnet8.test("int8")}
    changed = info | {"float": info["float"] | {"run": run}, "repeats": [repeat]}
    text = card(Shipped(changed, resnet8.folder), result)
    assert "It learnt from small: weight 0.9, temperature 3." in text
    assert "| top-1 % with seed 7 | 89.07 (88.44 to 89.67) | 88.96" in text


def test_a_card_tells_who_taught_the_fine_tuning(result, resnet8):
    assert "In fine-tuning it learnt from its own float original" in card(resnet8, result)
    assert "In fine-tuning" not in card(zoo.find("nano"), result), "its teacher is named already"


def test_a_card_tells_how_far_confidence_is_off(result, resnet8):
    info = json.loads(json.dumps(resnet8.info))
    for which, ece, divisor in (("float", 0.184, 0.51), ("int8", 0.012, 0.5)):
        info[which]["metrics"]["test"]["ece"] = ece
        info[which]["run"]["divisor"] = divisor
    text = card(Shipped(info, resnet8.folder), result)
    assert "| 18.4 points (as trained) | 1.2 points (logits divided by 0.5) |" in text


def test_a_card_does_not_gainsay_its_remark(result, resnet8):
    alone = "the test images decided only that it ships"
    assert "second that they have measured" in resnet8.info["remark"]
    assert alone not in card(resnet8, result)
    for remark in ({}, {"remark": "It was cold."}):
        without = {key: value for key, value in resnet8.info.items() if key != "remark"}
        assert alone in card(Shipped(without | remark, resnet8.folder), result)


def test_only_what_was_measured_is_in_the_table(result, resnet8):
    assert "[`resnet8`](train/zoo/resnet8.md)" in paired(result, [resnet8])
    assert "resnet8" not in paired(result | {"models": []}, [resnet8])


def study_of(*members, data="cifar10"):
    """A study of (recipe, architecture, top-1 on validation images, mean on test images)."""

    def member(recipe, architecture, validation, mean):
        span = {"top1": mean, "low": mean - 1, "high": mean + 1}
        run = {
            "stages": [{"architecture": architecture}],
            "metrics": {"validation": {"top1": validation}},
            "files": [{"role": "float", "accuracy": span}],
        }
        mean, features = {"float": span | {"seeds": 1}}, {"macs": 7}
        return {"recipe": recipe, "mean": mean, "runs": [run], "features": features}

    return {"data": {"name": data}, "members": [member(*each) for each in members]}


def test_the_best_of_an_architecture_is_the_best_on_validation_images(resnet8):
    study = study_of(("plain", "improved", 86.0, 84.0), ("tuned", "improved", 85.0, 87.0))
    listed = json.loads(measured([resnet8], [study]))["architectures"]
    best = {"model": "plain", "top1": 84.0, "low": 83.0, "high": 85.0, "seeds": 1, "macs": 7}
    assert listed["improved"] == best
    assert listed["resnet8"]["top1"] == resnet8.test("float")["top1"]
    elsewhere = study_of(("plain", "improved", 86.0, 84.0), data="digits")
    assert "improved" not in json.loads(measured([resnet8], [elsewhere]))["architectures"]
    not_run = {"data": {"name": "cifar10"}, "members": [{"recipe": "x", "mean": {}, "runs": []}]}
    assert [*json.loads(measured([resnet8], [not_run]))["architectures"]] == ["resnet8"]


def test_a_bench_of_times_alone_is_a_table_too(result, resnet8, tmp_path):
    rows = [row | {"accuracy": None} for row in result["models"]]
    timed = seal(result | {"models": rows, "data": None})
    (tmp_path / "mine.json").write_text(json.dumps(timed))
    text = fill("<!-- results: mine -->\n<!-- end -->", tmp_path, [resnet8])
    row = next(row for row in rows if row["file"] == "resnet8.tflite")
    assert f"| `resnet8.tflite` | — | {row['latency_us']['median']:.1f} µs" in text
    assert "test images" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valid": False, "doubts": ["it throttled"]}, "isn't valid: .* it throttled: measure it"),
        ({"models": [{"name": "net", "error": "no memory"}]}, r"figures of net \(no memory\)"),
    ],
)
def test_a_result_that_isn_t_sound_is_not_published(result, resnet8, tmp_path, change, message):
    (tmp_path / "mine.json").write_text(json.dumps(seal(result | change)))
    with pytest.raises(EdgecifarError, match=message):
        fill("<!-- results: mine -->\n<!-- end -->", tmp_path, [resnet8])


def test_counts_of_instructions_become_a_table(tmp_path):
    models = [{"file": "net.tflite", "instructions": {"pi4": 4_580_000, "pi5": 1_512_000}}]
    boards = {"pi4": "Raspberry Pi 4, cortex-a72", "pi5": "Raspberry Pi 5, cortex-a76"}
    counts = seal({"schema": 1, "kind": "instructions", "boards": boards, "models": models})
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    text = fill("<!-- instructions: counts -->\n<!-- end -->", tmp_path, ())
    assert "Raspberry Pi 4, cortex-a72 | Raspberry Pi 5, cortex-a76 |" in text
    assert "| `net.tflite` | 4.58 M | 1.51 M |" in text
    models[0]["instructions"]["pi4"] = 1  # by hand: the checksum tells
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    with pytest.raises(EdgecifarError, match="isn't what was measured"):
        fill(text, tmp_path, ())
