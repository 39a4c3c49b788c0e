import copy
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.commands import compare as command
from edgecifar.benchmarks.compare import Limits, compare, lines, markdown, relative
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import latency, ratio, round_medians, wilson

_STEADY = {"median": 1.0, "low": 0.99, "high": 1.01}


@pytest.fixture
def pair(tmp_path, bench_result):
    """Write the bench as it is and as `change` makes it; return both paths."""

    old = copy.deepcopy(bench_result)
    for row, times in zip(old["models"], (1.0, 0.5, 0.25), strict=True):  # a steady machine's
        row["latency_us"] |= {key: 100 * times * by for key, by in _STEADY.items()}
        if times < 1:
            row["ratio"] = {"value": times, "low": times * 0.99, "high": times * 1.01}

    def write(change=lambda result: None):
        paths = tmp_path / "old.json", tmp_path / "new.json"
        new = copy.deepcopy(old)
        change(new)
        for path, result in zip(paths, (old, new), strict=True):
            path.write_bytes(results.as_bytes(results.seal(result)))
        return paths

    return write


def _slower(times):
    def change(result):
        row = result["models"][1]
        for key in ("value", "low", "high"):
            row["ratio"][key] *= times
        for key in ("median", "low", "high"):
            row["latency_us"][key] *= times

    return change


def _wrong(result, count):
    """Let the second file answer `count` images wrongly that it had right."""
    accuracy, data = result["models"][1]["accuracy"], result["data"]
    right = results.unpack_bits(accuracy["correct"], data["n"])
    said = results.unpack_classes(accuracy["predicted"], 10)
    which = np.flatnonzero(right)[:count]
    right[which], said[which] = False, (said[which] + 1) % 10
    top1 = wilson(int(right.sum()), len(right))
    accuracy |= {"top1": top1.value, "low": top1.low, "high": top1.high}
    accuracy |= {"correct": results.pack_bits(right), "predicted": results.pack_classes(said, 10)}


def test_the_same_result_twice(pair):
    found = compare(*pair())
    assert [change.name for change in found.changes] == [
        "mlp32-float32", "mlp32-int8", "mlp8-float32",
    ]  # fmt: skip
    for change in found.changes:
        assert change.accuracy.points == change.flipped == 0
        assert not change.per_class
    assert found.changes[0].slowdown is None, "the others are measured by it"
    for change in found.changes[1:]:
        assert change.slowdown.value == 1
        assert change.slowdown.low <= 1 <= change.slowdown.high
    assert not found.regressions


def test_a_real_drop_is_a_regression(pair):
    old, new = pair(lambda result: _wrong(result, 60))
    found = compare(old, new)
    assert len(found.regressions) == 1
    assert "mlp32-int8: 7.53 points of top-1 lost" in found.regressions[0]
    change = found.changes[1]
    assert change.flipped == 60
    assert all(points < 0 for _, points in change.per_class)
    assert change.per_class[0][1] == min(points for _, points in change.per_class)
    assert not compare(old, new, Limits(max_drop=10)).regressions


def test_a_drop_within_chance_is_only_a_hint(pair):
    found = compare(*pair(lambda result: _wrong(result, 6)))  # 0.75 points, interval from 0.25 on
    assert not found.regressions
    assert "0.75 points" in found.changes[1].hints[0]


def test_a_real_slowdown_is_a_regression(pair):
    assert "times the latency" in compare(*pair(_slower(3))).regressions[0]
    assert not compare(*pair(_slower(3)), Limits(max_slowdown=5)).regressions
    assert not compare(*pair(_slower(1 / 3))).regressions


def test_a_slow_day_of_the_machine_is_no_slowdown(pair):
    def change(result):
        for row in result["models"]:
            for key in ("median", "low", "high"):
                row["latency_us"][key] *= 2

    found = compare(*pair(change))
    assert found.changes[1].slowdown.value == pytest.approx(1)
    assert not found.regressions


def test_a_file_that_fails_now_is_a_regression(pair):
    def change(result):
        result["models"][1] = {"name": "mlp32-int8", "file": "x", "error": "it crashes"}

    assert "it fails now (it crashes)" in compare(*pair(change)).regressions[0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("data", "fingerprint"), "0" * 64, "other images"),
        (("data", "n"), 12, "another number of images"),
        (("data", "labels"), "in another order", "the same images in another order"),
        (("environment", "cpu"), "Another CPU", "another processor"),
        (("environment", "board"), "Raspberry Pi 5", "another board"),
        (
            ("environment", "features"),
            ["amx int8", "avx2"],
            r"another set of processor features \(amx int8 in one alone\)",
        ),
        (("settings", "threads"), 2, "other threads"),
        (("models", 0, "backend"), "litert 1.0", "same interpreter"),
        (("models", 1, "batch"), 8, "--batch 1 and with 8: measure both alike"),
        (("models", 1, "threads"), 2, "--threads 1 and with 2: measure both alike"),
    ],
)
def test_what_cannot_be_compared_is_refused(pair, path, value, message):
    def change(result):
        for key in path[:-1]:
            result = result[key]
        result[path[-1]] = value

    old, new = pair(change)
    with pytest.raises(EdgecifarError, match=message):
        compare(old, new)
    if path[0] != "data":
        assert not compare(old, new, accuracy_only=True).regressions


def test_nothing_to_compare_is_no_success(pair):
    def without_accuracy(result):
        result["data"] = None
        for row in result["models"]:
            row["accuracy"] = None

    old, new = pair(without_accuracy)
    with pytest.raises(EdgecifarError, match=r"new\.json knows no accuracy"):
        compare(old, new)
    with pytest.raises(EdgecifarError, match="have no accuracies in common"):
        compare(new, new, accuracy_only=True)
    assert not compare(new, new).regressions


def test_files_of_one_name_are_told_apart_by_path(pair):
    def rename(result):
        for row, folder in zip(result["models"][1:], "ab", strict=True):
            row |= {"name": "model", "file": f"{folder}/model.tflite"}

    _, old = pair(rename)
    assert len(compare(old, old).changes) == 3


def test_an_invalid_run_is_refused(pair):
    old, new = pair(lambda result: result.update(valid=False, doubts=["the firmware reports: x"]))
    with pytest.raises(EdgecifarError, match="is invalid"):
        compare(old, new)
    assert compare(old, new, accuracy_only=True).changes[0].slowdown is None


def test_files_are_matched_by_name(pair):
    def rename(result):
        result["models"][2]["name"] = "other"

    found = compare(*pair(rename))
    assert (found.only_old, found.only_new) == (("mlp8-float32",), ("other",))

    def rename_all(result):
        for row in result["models"]:
            row["name"] += "-new"

    with pytest.raises(EdgecifarError, match="no file in common"):
        compare(*pair(rename_all))


def test_an_edited_result_is_refused(pair):
    old, new = pair()
    content = json.loads(new.read_text())
    content["models"][0]["accuracy"]["top1"] = 99.9
    new.write_text(json.dumps(content))
    with pytest.raises(EdgecifarError, match="checksum"):
        compare(old, new)


def test_two_files_of_a_bench_are_compared_round_by_round():
    """Whose speed a machine changes by half, for both alike, and for the first file by less."""
    rng = np.random.default_rng(0)
    clock = rng.choice([1.0, 1.5], 40)

    def row(us, factor):
        rounds = [np.array([1e3 * us * value]) for value in factor * rng.normal(1, 0.01, 40)]
        found = asdict(latency(rounds)), asdict(ratio(rounds, float_rounds))
        medians = round_medians(rounds).tolist()
        return dict(zip(("latency_us", "ratio", "rounds_us"), (*found, medians), strict=True))

    float_rounds = [np.array([300e3 * value]) for value in rng.normal(1, 0.01, 40)]
    ours, theirs = row(85, clock), row(100, clock)
    paired = relative(ours, theirs)
    assert paired.low < 0.85 < paired.high < paired.low + 0.02
    older = [{key: value for key, value in r.items() if key != "rounds_us"} for r in (ours, theirs)]
    apart = relative(*older)
    assert apart.value == pytest.approx(paired.value, rel=0.02)
    assert apart.high - apart.low > 0.2


def test_command(pair):
    done = CliRunner().invoke(command, [str(path) for path in pair()])
    assert done.exit_code == 0
    assert "no regression" in done.output
    worse = [str(path) for path in pair(lambda result: _wrong(result, 60))]
    done = CliRunner().invoke(command, [*worse, "--markdown"])
    assert isinstance(done.exception, EdgecifarError)
    assert done.output.startswith("| file | top-1")
    assert "- regression: mlp32-int8" in done.output
    assert CliRunner().invoke(command, [*worse, "--max-drop", "20"]).exit_code == 0
    for impossible in ({"max_slowdown": 0.5}, {"max_slowdown": math.nan}, {"max_drop": math.nan}):
        with pytest.raises(EdgecifarError, match="0 points or more"):
            Limits(**impossible)


def test_markdown_escapes_names_and_a_terminal_does_not(pair):
    def rename(result):
        result["models"][0]["name"] = "a|b"

    old, _ = pair()
    content = json.loads(old.read_text())
    rename(content)
    old.write_bytes(results.as_bytes(results.seal(content)))
    found = compare(old, old)
    assert "a\\|b" in markdown(found)
    assert "a|b" in lines(found)[0]


def test_the_file_that_all_are_measured_by_is_no_comparison(pair):
    """Or a check passes whose only model came under another name, whatever became of it."""

    def rename(result):
        _slower(10)(result)
        _wrong(result, 100)
        del result["models"][2:]
        result["models"][1]["name"] = "pruned"

    old, new = pair(rename)
    stored = json.loads(old.read_text())
    del stored["models"][2:]
    old.write_bytes(results.as_bytes(results.seal(stored)))
    found = compare(old, new)
    assert [change.name for change in found.changes][1:] == ["mlp32-int8 and pruned"]
    assert found.regressions
    more = json.loads(new.read_text())
    more["models"].append(more["models"][1] | {"name": "other"})
    new.write_bytes(results.as_bytes(results.seal(more)))
    with pytest.raises(EdgecifarError, match="have no file in common but the first"):
        compare(old, new)


def test_names_that_only_one_result_has_twice(pair):
    def change(result):
        slow = result["models"][1]
        for key in ("value", "low", "high"):
            slow["ratio"][key] *= 3
        result["models"].append(slow | {"batch": 8})

    old, new = pair(change)
    found = compare(old, new)
    assert [text.partition(":")[0] for text in found.regressions] == ["mlp32-int8, batch 1"]
    assert found.only_new == ("mlp32-int8, batch 8",)
    assert not found.only_old


def test_files_of_one_name_are_matched_by_path_in_any_order(pair):
    def change(result):
        result["models"] = [
            *result["models"],
            result["models"][1] | {"file": "v2/net.tflite", "name": "net"},
            result["models"][2] | {"file": "v1/net.tflite", "name": "net"},
        ]

    _, first = pair(change)
    result = results.read(first)
    *others, one, two = result["models"]
    second = first.with_name("swapped.json")
    second.write_bytes(results.as_bytes(results.seal(result | {"models": [*others, two, one]})))
    found = compare(first, second)
    assert not found.regressions
    assert {change.slowdown.value for change in found.changes[1:]} == {1}


def test_a_file_that_fails_now_in_one_of_its_interpreters(pair):
    def twice(result):
        row = result["models"][1]
        row["backend"] = "litert 2.3.0"
        result["models"].append(row | {"backend": "tflite-runtime 2.14.0"})

    _, old = pair(twice)
    result = results.read(old)
    row = result["models"][-1]
    failed = {key: row[key] for key in ("name", "file", "threads", "batch") if key in row}
    result["models"][-1] = failed | {"backend_asked": "tflite_runtime", "error": "it crashes"}
    new = old.with_name("newer.json")
    new.write_bytes(results.as_bytes(results.seal(result)))
    assert "it fails now (it crashes)" in compare(old, new).regressions[0]


@pytest.mark.parametrize("files", [("a/net.tflite", "a/net.onnx"), ("1/net.onnx", "2/net.onnx")])
def test_a_file_that_fails_now_beside_one_of_its_name(pair, files):
    """It has no interpreter then, and is told by its format or its folder."""

    def both(result):
        row = result["models"][1] | {"backend": "litert 2.3.0"}
        result["models"] += [row | {"name": "net", "file": file} for file in files]

    _, old = pair(both)
    result = results.read(old)
    row = result["models"][-1]
    failed = {key: row[key] for key in ("name", "file", "threads", "batch") if key in row}
    result["models"][-1] = failed | {"error": "it crashes"}
    new = old.with_name("newer.json")
    new.write_bytes(results.as_bytes(results.seal(result)))
    assert "it fails now (it crashes)" in compare(old, new).regressions[0]
