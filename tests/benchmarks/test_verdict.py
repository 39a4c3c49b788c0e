import csv
import json

import numpy as np
import pytest

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report.benches import bench_view
from edgecifar.benchmarks.report.load import Accuracy, Latency, Speedup, load_bench
from edgecifar.benchmarks.report.records import as_csv, bench_records
from edgecifar.benchmarks.report.verdict import Row, bench_rows, compare, decide
from edgecifar.benchmarks.statistics import McNemar, PairedDifference
from edgecifar.runtime.results import seal
from edgecifar.runtime.statistics import wilson


@pytest.fixture
def bench_result(bench_result):
    """The bench with files of one network: the narrow net passes for a pruned form of the wide."""
    *models, narrow = bench_result["models"]
    pruned = narrow | {"name": "mlp32-p75-float32", "file": "mlp32-p75-float32.tflite"}
    return seal(bench_result | {"models": [*models, pruned]})


def row(index, name, median, **values):
    """A row with an interval of 2 % to either side of its median."""
    latency = Latency(median, low=0.98 * median, high=1.02 * median)
    return Row(index, name, latency=latency, **values)


def paired(points, p):
    return PairedDifference(points, points - 0.3, points + 0.3, 10_000, McNemar(10, 8, p))


FLOAT = row(0, "net-float32", 130.0, accuracy=Accuracy(87.19, 86.5, 87.8, 10_000))
INT8 = row(
    1,
    "net-int8",
    41.3,
    accuracy=Accuracy(87.15, 86.5, 87.8, 10_000),
    speedup=Speedup(3.15, 3.0, 3.2),
    size_ratio=3.4,
    gap=-0.04,
    difference=paired(-0.04, 0.8),
)


def test_says_what_was_won_and_what_was_lost():
    said = compare(INT8, FLOAT).replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "3.1× faster and 3.4× smaller than net-float32; "  # noqa: RUF001
        "0.04 points lost, not significant (n = 10,000, McNemar p = 0.80)."
    )
    assert decide([FLOAT, INT8]).headline == "Ship net-int8"


def test_is_honest_when_int8_is_slower():
    slow = row(1, "net-int8", 143.0, speedup=Speedup(0.91, 0.89, 0.93), size_ratio=3.4, gap=-0.04)
    said = compare(slow, FLOAT)
    assert said.startswith("not faster on this device but 1.10")
    verdict = decide([FLOAT, slow])
    assert verdict.chosen is FLOAT
    assert "not faster on this device" in verdict.others[0].text


@pytest.mark.parametrize(
    ("speedup", "said"),
    [
        (Speedup(1.01, 0.97, 1.05), "not measurably faster (0.970 to 1.050)"),
        (Speedup(1.001, 0.98, 1.02), "no faster and no slower"),
        (Speedup(1.001, 0.7, 1.6), "not measurably faster (0.70 to 1.60)"),
    ],
)
def test_does_not_call_noise_a_speed_up(speedup, said):
    same = row(1, "net-int8", 129.0, speedup=speedup, size_ratio=3.4, gap=-0.04)
    assert compare(same, FLOAT).startswith(said)


def test_a_tie_in_speed_goes_to_the_smaller_file():
    accuracy = Accuracy(87.0, 86.3, 87.6, 10_000)
    big = row(0, "big", 100.0, accuracy=accuracy, payload_bytes=400)
    small = row(1, "small", 101.0, accuracy=accuracy, payload_bytes=100, gap=0.0)
    assert decide([big, small]).chosen is small


def test_a_few_bytes_do_not_buy_accuracy():
    """Fine-tuning may win ten points for a hundred bytes, at the same latency."""
    poor, good = Accuracy(86.5, 85.8, 87.2, 10_000), Accuracy(89.0, 88.4, 89.6, 10_000)
    plain = row(0, "plain", 100.0, accuracy=poor, payload_bytes=100)
    tuned = row(1, "tuned", 100.5, accuracy=good, payload_bytes=101, gap=2.5)
    assert decide([plain, tuned]).chosen is tuned


def answered(right, wrong):
    """Return an accuracy with its answers, whose first `wrong` are wrong."""
    correct = np.arange(right + wrong) >= wrong
    top1 = wilson(right, right + wrong)
    return Accuracy(top1.value, top1.low, top1.high, len(correct), correct)


def test_of_files_as_small_and_fast_the_better_one_is_chosen_image_by_image():
    """Their intervals, each of all images, overlap widely."""
    sparse = row(0, "sparse", 100.0, accuracy=answered(9300, 700), payload_bytes=100)
    dense = row(1, "dense", 100.2, accuracy=answered(9345, 655), payload_bytes=101, gap=0.45)
    assert decide([sparse, dense]).chosen is dense


@pytest.mark.parametrize(("factor", "chosen"), [(1.0, "small"), (1.05, "big")])
def test_a_tie_in_speed_is_told_round_by_round(factor, chosen):
    """A machine of two speeds gives both medians intervals that overlap."""
    times = [100.0] * 10 + [130.0] * 10
    accuracy = Accuracy(87.0, 86.3, 87.6, 10_000)
    shared = {"accuracy": accuracy, "latency": Latency(110, low=100, high=130)}
    slowed = [factor * time for time in times]
    big = Row(0, "big", rounds=times, payload_bytes=400, **shared)
    small = Row(1, "small", rounds=slowed, payload_bytes=100, **shared)
    assert decide([big, small]).chosen.name == chosen


def test_speed_does_not_buy_more_than_a_point():
    poor = row(1, "poor", 10.0, accuracy=Accuracy(80.0), speedup=Speedup(13, 12, 14), gap=-7.19)
    verdict = decide([FLOAT, poor])
    assert verdict.chosen is FLOAT
    assert "7.19 points lost" in verdict.others[0].text


def test_without_accuracy_it_only_says_what_is_fastest():
    rows = [row(0, "a", 50.0), row(1, "b", 20.0, speedup=Speedup(2.5, 2.4, 2.6))]
    verdict = decide(rows)
    assert verdict.headline == "Fastest: b"
    assert "accuracy was not measured" in verdict.rule


def test_pairs_the_answers_that_the_bench_kept(bench_file, bench_result):
    rows = bench_rows(load_bench(bench_file))
    measured = [model["accuracy"]["top1"] for model in bench_result["models"]]
    assert [r.difference is not None for r in rows] == [False, True, True]
    assert rows[2].difference.points == pytest.approx(measured[2] - measured[0])
    assert rows[2].difference.test.significant, "8 hidden units against 32"
    assert rows[1].size_ratio == pytest.approx(4.0)


def test_speed_up_is_the_inverse_of_the_ratio(bench_file, bench_result):
    speedup = bench_rows(load_bench(bench_file))[2].speedup
    ratio = bench_result["models"][2]["ratio"]
    assert speedup.value == pytest.approx(1 / ratio["value"])
    assert speedup.low <= speedup.value <= speedup.high


def test_sizes_are_those_of_models_without_metadata(tmp_path, bench_result):
    """Which files of others don't have; README and `compare` count so too."""
    models = [dict(model) for model in bench_result["models"]]
    models[1]["file_bytes"] = models[1]["payload_bytes"] + 3000
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    view = bench_view(load_bench(path), "b")
    assert view.rows[1].size_ratio == pytest.approx(4.0)
    size = view.table.columns.index("Size")
    whole, alone = (words.size(models[1][key]) for key in ("file_bytes", "payload_bytes"))
    assert view.table.rows[1][size].text == alone
    assert f"file {whole}" in view.table.rows[1][size].detail
    assert "file" not in view.table.rows[0][size].detail
    (plot,) = [plot for plot in view.plots if plot.title == "Accuracy against size"]
    assert f"at {models[1]['payload_bytes'] / 1e3:.3g} kB" in plot.svg
    record = list(csv.DictReader(as_csv(bench_records(load_bench(path))).splitlines()))[1]
    assert record["payload_bytes"] == str(models[1]["payload_bytes"])
    assert record["file_bytes"] == str(models[1]["file_bytes"])


def test_how_far_confidence_is_off_is_shown_where_it_was_measured(tmp_path, bench_result):
    models = [{**m, "accuracy": dict(m["accuracy"])} for m in bench_result["models"]]
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    assert "Confidence off by" not in bench_view(load_bench(path), "b").table.columns
    models[0]["accuracy"]["ece"], models[1]["accuracy"]["ece"] = 0.0088, None
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    view = bench_view(load_bench(path), "b")
    column = view.table.columns.index("Confidence off by")
    told = [row[column].text for row in view.table.rows]
    assert told == [f"0.88{words.SPACE}points", words.NOTHING, words.NOTHING]
    records = csv.DictReader(as_csv(bench_records(load_bench(path))).splitlines())
    assert [record["ece"] for record in records] == ["0.0088", "", ""]


def test_a_failed_file_is_told_and_the_next_is_compared_with(tmp_path, bench_result):
    broken = {"name": "broken", "file": "broken.tflite", "error": "it is truncated"}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | {"models": [broken, *bench_result["models"]]})))
    verdict = decide(bench_rows(load_bench(path)))
    assert verdict.first.name == "mlp32-float32"
    assert verdict.others[0].text == "could not be measured: it is truncated"


def test_speed_where_the_first_file_failed(tmp_path, bench_result):
    """Nothing has a ratio to it then, but the others met the same rounds."""
    broken = {"name": "broken", "file": "broken.tflite", "error": "it is missing"}
    first, second, third = (row | {"ratio": None} for row in bench_result["models"])
    first["rounds_us"], second["rounds_us"] = [10.0, 12.0] * 9, [5.0, 6.0] * 9
    third.pop("rounds_us", None)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | {"models": [broken, first, second, third]})))
    bench = load_bench(path)
    assert bench_rows(bench)[2].speedup.value == 2
    speed = bench_view(bench, "a").table
    cells = [row[speed.columns.index("Speed")].text for row in speed.rows]
    assert cells[1:] == ["1", f"2.00{words.TIMES}", words.NOTHING]


def test_speed_is_told_against_the_file_that_is_named(bench_file, tmp_path, bench_result):
    """The bench's ratios refer to its first file even if its answers couldn't be judged."""
    models = [dict(model) for model in bench_result["models"]]
    models[0] |= {"accuracy": None, "error": "it doesn't know the class 'cat'"}
    path = tmp_path / "broken-first.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    rows = bench_rows(load_bench(path))
    assert rows[1].speedup is None
    told = [model["ratio"]["value"] for model in models]
    assert rows[2].speedup.value == pytest.approx(told[1] / told[2])
    assert rows[2].speedup.low <= rows[2].speedup.value <= rows[2].speedup.high
    verdict = decide(rows)
    assert verdict.first.name == "mlp32-int8"
    assert verdict.chosen.name != "mlp32-float32", "what failed is not recommended"


def test_more_images_a_call_are_judged_by_the_image(tmp_path, bench_result):
    one = bench_result["models"][0] | {"batch": 1}
    times = {"value": 4.0, "low": 3.9, "high": 4.1}
    eight = one | {"batch": 8, "ratio": times}
    eight["latency_us"] = {key: 4 * value for key, value in one["latency_us"].items()}
    path = tmp_path / "batches.json"
    path.write_text(json.dumps(seal(bench_result | {"models": [one, eight]})))
    bench = load_bench(path)
    rows = bench_rows(bench)
    assert rows[1].speedup.value == pytest.approx(2)
    assert not bench_view(bench, "a").plots, "two costs of different kinds"
    verdict = decide(rows)
    assert verdict.chosen is rows[0], "who waits for one image waits longer with the other"
    assert "faster an image" in verdict.others[0].text


def test_accuracy_by_its_own_word_is_marked(tmp_path, bench_result):
    model = dict(bench_result["models"][0])
    own = {"this": {"top1": 88.0, "low": 87.0, "high": 89.0, "n": 1000, "split": "validation"}}
    model |= {"accuracy": None, "metadata": {"accuracy": own}}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | {"models": [model]})))
    (found,) = bench_rows(load_bench(path))
    assert found.accuracy.top1 == 88.0
    assert found.own_word == "validation"


def test_files_of_one_name_are_told_apart(tmp_path, bench_result):
    models = [dict(model) for model in bench_result["models"]]
    models[2] |= {"name": models[0]["name"], "file": "exports/mlp32-float32.onnx"}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    names = [row.name for row in bench_rows(load_bench(path))]
    assert names == ["mlp32-float32.tflite", "mlp32-int8", "mlp32-float32.onnx"]


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, bench_result):
    models = [dict(model) for model in bench_result["models"]]
    for model, folder in zip(models, ("a/old", "a/new", "b/new"), strict=True):
        model |= {"name": "model", "file": f"runs/{folder}/model.tflite"}
    path = tmp_path / "twins.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    bench = load_bench(path)
    names = [row.name for row in bench_rows(bench)]
    assert names == ["old/model.tflite", "a/new/model.tflite", "b/new/model.tflite"]
    assert [*bench_view(bench, "b").origin.folded["SHA-256"]] == names


def test_what_files_say_of_themselves_is_not_called_measured(tmp_path, bench_result):
    own = {"accuracy": {"this": {"top1": 90.0, "low": 89.0, "high": 91.0, "n": 100}}}
    models = [model | {"accuracy": None, "metadata": own} for model in bench_result["models"]]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models, "data": None})))
    rule = decide(bench_rows(load_bench(path))).rule
    assert rule.endswith(
        "Judged by what files say of themselves, without a test on the same images."
    )


def test_nothing_is_recommended_where_nothing_was_measured(tmp_path, bench_result):
    models = [
        {"name": model["name"], "file": model["file"], "error": "it is truncated"}
        for model in bench_result["models"]
    ]
    path = tmp_path / "failed.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models, "data": None})))
    verdict = decide(bench_rows(load_bench(path)))
    assert verdict.headline == f"Not measured: {models[0]['name']}"


def test_runs_are_chosen_on_validation_images():
    """The test images say how good the chosen one is; chosen by them, it would look better."""
    lucky = Row(0, "lucky", accuracy=Accuracy(90.0, 89.0, 91.0, 1000), validation=88.0)
    better = Row(1, "better", accuracy=Accuracy(89.0, 88.0, 90.0, 1000), validation=89.0)
    verdict = decide([lucky, better])
    assert (verdict.chosen, verdict.rule) == (better, "Chosen on validation images.")


def test_accuracies_of_different_images_are_not_compared(tmp_path, bench_result):
    """As a file says one of test images, and another, exported later, one of validation images."""
    models = []
    for row, split, top1 in zip(
        bench_result["models"][:2], ("validation", "test"), (96.28, 95.74), strict=True
    ):
        own = {"this": {"top1": top1, "low": top1 - 1, "high": top1 + 1, "n": 5000, "split": split}}
        metadata = {"accuracy": own, "dataset": {"fingerprint": "f"}}
        models.append(row | {"accuracy": None, "metadata": metadata})
    path = tmp_path / "bench.json"

    def rows_of(models):
        path.write_text(json.dumps(seal(bench_result | {"models": models})))
        return bench_rows(load_bench(path))

    verdict = decide(rows := rows_of(models))
    assert rows[1].gap is None
    assert verdict.action == "Fastest:"
    assert verdict.rule == "Chosen by speed alone: the accuracies are of different images."
    assert "points" not in verdict.reason
    assert not [p for p in bench_view(load_bench(path), "b").plots if "ccuracy" in p.title]
    models[1]["metadata"]["accuracy"]["this"]["split"] = "validation"
    assert rows_of(models)[1].gap == pytest.approx(-0.54)


def test_nothing_is_most_accurate_where_images_differ_and_no_time_is_known():
    rows = [
        Row(0, "first", accuracy=Accuracy(95.0, 94.0, 96.0, 5000), images="a"),
        Row(1, "other", accuracy=Accuracy(96.0, 95.0, 97.0, 5000), images="b"),
    ]
    verdict = decide(rows)
    assert (verdict.action, verdict.chosen) == ("Not timed:", rows[0])
    assert verdict.rule == "The accuracies are of different images."
    assert [said.name for said in verdict.others] == ["other"]
