"""Benches of several networks: which files belong together, and what each of them is for."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report.benches import bench_view
from edgecifar.benchmarks.report.build import page, results_csv, results_markdown
from edgecifar.benchmarks.report.changes import change_view
from edgecifar.benchmarks.report.front import front
from edgecifar.benchmarks.report.load import Measured, load_bench, parse_bench
from edgecifar.benchmarks.report.networks import are_several, bases, kin, originals
from edgecifar.benchmarks.report.verdict import measured_rows, versus
from edgecifar.benchmarks.statistics import paired_difference
from edgecifar.runtime.results import seal, unpack_bits

ROOT = Path(__file__).parents[2]


def bench_of(*files):
    """A bench of files told by their names, or by (name, what else its row says)."""
    told = [file if isinstance(file, tuple) else (file, {}) for file in files]
    rows = [{"name": name, "file": f"{name}.tflite", **more} for name, more in told]
    return parse_bench(Path("bench.json"), {"models": rows})


def timed(name, top1, median, size=1000, dtype="int8", **more):
    row = {"payload_bytes": size, "input": {"dtype": dtype}}
    if top1:
        row["accuracy"] = {"top1": top1, "low": top1 - 1, "high": top1 + 1, "n": 1000}
    if median:
        row["latency_us"] = {"median": median, "low": 0.99 * median, "high": 1.01 * median}
        row["ratio"] = {key: value / 100 for key, value in row["latency_us"].items()}
        row["ratio"]["value"] = row["ratio"].pop("median")
    return name, row | more


@pytest.mark.parametrize(
    ("name", "network", "steps", "is_float"),
    [
        ("resnet8-float32", "resnet8", "", True),
        ("resnet8-int16x8", "resnet8", "", False),
        ("resnet8-p50-qat-int8", "resnet8", "p50 qat", False),
        ("resnet8-s80-float16", "resnet8", "s80", False),
        ("resnet8-2of4-qat-float-dense-int8", "resnet8", "2of4 qat", False),
        ("efficientnet_lite0-float32", "efficientnet-lite0", "", True),
        ("pretrainedResnet_large_float", "pretrainedResnet-large", "", True),
        ("pretrainedResnet_quant", "pretrainedResnet", "", False),
        ("float", "", "", True),
        ("int8", "", "", False),
    ],
)
def test_names_tell_networks(name, network, steps, is_float):
    found = kin(bench_of(name).models[0])
    assert (found.network, found.steps, found.is_float) == (network, {*steps.split()}, is_float)


def test_a_file_without_a_number_in_its_name_is_told_by_its_input():
    bench = bench_of(("nano", {"input": {"dtype": "int8"}}), ("x", {"input": {"dtype": "float32"}}))
    assert [kin(model).is_float for model in bench.models] == [False, True]


def test_an_architecture_that_looks_like_a_step_is_none():
    """As those of a search do, whose names have `s` for a stride."""
    names = ("edge-8-s16-s80-float32", "edge-8-s32-float32")
    first, second = (
        kin(Measured(name, {"metadata": {"architecture": name[:10]}}, None, None, None))
        for name in names
    )
    assert (first.network, first.steps) == ("edge-8-s16", {"s80"})
    assert second.network == "edge-8-s32"


def test_each_file_has_its_own_float_form():
    bench = bench_of(
        "a-float32", "a-int8", "a-p50-float32", "a-p50-qat-int8", "a-s80-int8", "b-float32",
        "b-qat-int8", "c-int8",
    )  # fmt: skip
    assert originals(bench) == {1: 0, 2: 0, 3: 2, 4: 0, 6: 5}
    assert are_several(bench)
    assert bases(bench) == originals(bench)


def test_a_float_form_of_its_own_interpreter_threads_and_batch_comes_first():
    onnx, two = {"file": "a.onnx", "backend": "onnxruntime"}, {"threads": 2}
    bench = bench_of("a-float32", ("a-float32", onnx), ("a-int8", onnx), "a-int8", ("a-int8", two))
    assert originals(bench) == {2: 1, 3: 0}


def test_files_of_one_network_or_without_float_forms_are_compared_with_the_first():
    assert bases(bench_of("a-float32", "a-int8", "a-p50-int8")) == {1: 0, 2: 0}
    assert bases(bench_of("old", "new")) == {1: 0}
    assert bases(bench_of(("broken", {"error": "no"}), "old", "new"))[2] == 1


def test_several_networks_have_no_one_file_to_ship():
    bench = bench_of(
        timed("a-float32", 90.5, 100, 4000, "float32"),
        timed("a-int8", 90, 30, metadata={"name": "a-int8"}),
        timed("b-float32", 93, 900, 8000, "float32"),
        timed("b-int8", 93.5, 300, 2000, metadata={"name": "b-int8"}),
        timed("peer_quant", 87, 35, 1010),
        timed("large_quant", 91, 400, 1900),
        timed("slow", 80, 2000, 50),
    )
    found = front(bench)
    assert found.headline == "a-int8 is the fastest, b-int8 the most accurate"
    assert [(p.row.name, p.role) for p in found.places] == [
        ("a-int8", "fastest"), ("a-float32", "in between"), ("b-int8", "most accurate"),
    ]  # fmt: skip
    pairs = [(row[0].text, row[0].detail) for row in found.pairs.rows]
    assert pairs == [
        ("a-int8", "against a-float32, its float form"),
        ("a-int8", "against peer_quant, int8 TFLite, nearest in size"),
        ("b-int8", "against b-float32, its float form"),
        ("b-int8", "against large_quant, int8 TFLite, nearest in size"),  # none is larger
        ("b-int8", "against a-float32, the next faster"),
        ("slow", "against b-int8, which beats it"),
    ]
    view = bench_view(bench, "b")
    tile = view.tiles[0]
    assert (tile.value, tile.label) == (words.percent(90), "a-int8: fastest")
    assert tile.detail.replace(words.SPACE, " ") == "30.0 µs, 1.00 kB"
    assert not {"Against the first", "Speed"} & {*view.table.columns}


def test_figures_of_pairs_are_of_the_pair(bench_file, bench_result):
    models = {model["name"]: model for model in bench_result["models"]}
    bench = load_bench(bench_file)
    (row,) = [r for r in front(bench).pairs.rows if "mlp32-float32, its" in r[0].detail]
    points, same, _, size = row[1:]
    big, small = (models[f"mlp32-{kind}"] for kind in ("float32", "int8"))
    assert points.text == words.signed(small["accuracy"]["top1"] - big["accuracy"]["top1"])
    n = bench_result["data"]["n"]
    found = paired_difference(*(unpack_bits(m["accuracy"]["correct"], n) for m in (big, small)))
    span = words.interval(found.low, found.high, words.signed)
    assert points.detail == f"{span}, {words.p_value(found.test.p)}"
    said = [model.predicted for model in bench.models]
    assert same.text == words.percent(100 * float(np.mean(said[0] == said[1])))
    assert size.text.startswith("4.0")
    first, second, third = measured_rows(bench)
    assert versus(bench, third, first).difference.test.significant, "8 hidden units against 32"
    assert versus(bench, first, third).speedup.value == pytest.approx(
        1 / versus(bench, third, first).speedup.value
    )
    assert versus(bench, second, first).against == "mlp32-float32"


@pytest.mark.parametrize(
    ("median", "told"),
    [
        (25, f"{words.times(4)} faster"),
        (250, f"{words.times(2.5)} slower"),
        (100.5, "no real difference"),
    ],
)
def test_a_latency_is_told_beside_that_of_the_float_form(median, told):
    bench = bench_of(
        timed("a-float32", 90, 100, dtype="float32"), timed("a-int8", 89, median),
        timed("b-float32", 95, 900, dtype="float32"),
    )  # fmt: skip
    pairs = front(bench).pairs
    (row,) = (row for row in pairs.rows if row[0].detail.endswith("its float form"))
    assert row[pairs.columns.index("Latency")].text == told


def test_a_lead_that_may_be_chance_is_called_so(tmp_path, bench_result):
    """The int8 form of the wide net errs on other images than the float one, on as many or so."""
    models = [dict(model) for model in bench_result["models"]]
    slower = dict(models[0], name="other-float32", file="other.tflite")
    slower["latency_us"] = {key: 9 * value for key, value in slower["latency_us"].items()}
    slower["accuracy"] = models[0]["accuracy"] | {"top1": models[0]["accuracy"]["top1"] + 0.01}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | {"models": [models[0], slower]})))
    told = front(load_bench(path)).reason
    assert "That other-float32 is right more often than mlp32-float32" in told
    assert "may be chance" in told


def test_what_was_not_measured_is_told():
    no_accuracy = front(bench_of(timed("a", None, 50), timed("b", None, 20)))
    assert no_accuracy.headline == "b is the fastest"
    assert no_accuracy.reason.startswith("The accuracy is not known")
    assert no_accuracy.pairs.columns[1:] == ("Latency", "Size")
    no_latency = front(bench_of(timed("a", 90, None), timed("b", 80, None)))
    assert no_latency.headline == "a is the most accurate"
    assert no_latency.reason.startswith("The latency is not known")
    some = front(bench_of(timed("a", 90, 20), timed("b", None, 50)))
    assert some.headline == "a is the fastest"
    assert some.reason.startswith("The accuracy of b is not known")
    assert some.pairs.rows[0][0].detail == "against a, the fastest"


def test_one_file_may_beat_all_others():
    found = front(bench_of(timed("a", 90, 20), timed("b", 80, 50)))
    assert found.headline == "a is the fastest and the most accurate"
    assert found.pairs.rows[0][0].detail == "against a, which beats it"


def test_a_network_alone_is_shipped_as_before(bench_result):
    models = bench_result["models"][:2]
    bench = parse_bench(Path("b.json"), bench_result | {"models": models})
    assert front(bench) is None
    assert bench_view(bench, "b").verdict.action == "Ship"


def test_all_forms_compare_with_the_float_form(bench_file):
    bench = load_bench(bench_file)
    html = page([], [bench]).replace("<wbr>", "")
    assert "Ship" not in html
    assert "against mlp32-float32, its float form" in html
    assert "What changed against the float form" in html
    text = results_markdown([], [bench])
    assert " is the fastest" in text.splitlines()[2], "after what a reader must know"
    assert "| mlp32-int8 (against mlp32-float32, its float form) |" in text
    records = list(csv.DictReader(results_csv([], [bench]).splitlines()))
    assert [record["against"] for record in records] == ["", "mlp32-float32", ""]
    view = change_view(bench, None)
    assert [flips.name for flips in view.flips] == ["mlp32-int8 against mlp32-float32"]


def test_the_published_report_compares_every_int8_file_with_its_float_form_and_a_peer():
    bench = load_bench(ROOT / "benchmarks" / "results" / "shipped.json")
    told = [(row[0].text, row[0].detail) for row in front(bench).pairs.rows]
    for name in ("nano", "small", "base", "resnet8"):
        assert (name, f"against {name}-float32, its float form") in told
    peers = "pretrainedResnet_quant, MLPerf Tiny's ResNet-8", "pretrainedResnet_large_int8"
    for name, peer in zip(("nano", "small", "base"), (*peers, peers[1]), strict=True):
        assert any(n == name and detail.startswith(f"against {peer}") for n, detail in told)
    assert ("pretrainedResnet_quant", "against pretrainedResnet, its float form") in told
