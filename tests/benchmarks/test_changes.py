import copy
import json
import shutil

import numpy as np
import pytest

from edgecifar.benchmarks.report.build import build_report
from edgecifar.benchmarks.report.changes import change_view, change_views, device_table
from edgecifar.benchmarks.report.load import load_bench, load_run
from edgecifar.benchmarks.report.origins import told_apart
from edgecifar.runtime.results import pack_bits, pack_classes, seal, unpack_classes


@pytest.fixture
def bench_result(bench_result):
    """The bench with files of one network: the narrow net passes for a pruned form of the wide."""
    *models, narrow = bench_result["models"]
    pruned = narrow | {"name": "mlp32-p75-float32", "file": "mlp32-p75-float32.tflite"}
    return seal(bench_result | {"models": [*models, pruned]})


@pytest.fixture
def bench(bench_file):
    return load_bench(bench_file)


@pytest.fixture
def variant(tmp_path, bench_result):
    """Load the bench as `change` makes it."""

    def make(change, name="other.json"):
        result = copy.deepcopy(bench_result)
        change(result)
        path = tmp_path / name
        path.write_text(json.dumps(seal(result)))
        return load_bench(path)

    return make


def test_classes_and_flips_against_the_first(bench, flat_digits):
    view = change_view(bench, flat_digits.images)
    said = [model.predicted for model in bench.models]
    for row, index, flips in zip(view.classes.rows, (1, 2), view.flips, strict=True):
        for name, cell in zip(view.classes.columns[1:], row[1:], strict=True):
            of_class = bench.labels == bench.classes.index(name)
            right = [(answers == bench.labels)[of_class].mean() for answers in said]
            told = float(cell.text.replace("\N{MINUS SIGN}", "-"))
            assert told == pytest.approx(100 * (right[index] - right[0]), abs=0.006)
        changed = int((said[0] != said[index]).sum())
        assert flips.summary.startswith(f"{changed:,} of {len(bench.labels):,} images")
        assert len(flips.images) == min(12, changed)


def test_images_are_only_shown_in_the_benchs_order(bench, run_folders, flat_digits, variant):
    runs = [load_run(path) for path in run_folders]
    (view,) = change_views([bench], runs, flat_digits.images)
    assert any(flips.images for flips in view.flips)
    (view,) = change_views([bench], runs, flat_digits.images[:10])
    assert not any(flips.images for flips in view.flips)

    def other_order(result):
        from edgecifar.runtime.results import pack_classes

        result["data"]["labels"] = pack_classes(np.roll(bench.labels, 1), 10)

    (view,) = change_views([variant(other_order)], runs, flat_digits.images)
    assert not any(flips.images for flips in view.flips)


def test_without_answers_there_is_nothing_to_show(variant):
    def forget(result):
        for row in result["models"]:
            del row["accuracy"]["predicted"]

    assert change_views([variant(forget)], [], None) == ()


def test_devices_side_by_side(bench, variant, tmp_path):
    def slower(result):
        result["environment"]["board"] = "Raspberry Pi 4"
        for row in result["models"]:
            row["latency_us"]["median"] *= 10
        result["models"][2] = {"name": "mlp32-p75-float32", "file": "x", "error": "it crashes"}

    other = variant(slower)
    table = device_table([bench, other])
    assert table.columns == ("File", "Test CPU", "Raspberry Pi 4", "Answers")
    assert table.rows[0][3].text == "the same"
    assert table.rows[2][2].detail == "failed"
    assert table.rows[2][3].text == "\N{EM DASH}"
    assert device_table([bench]) is None
    page = build_report([], [bench.source, other.source], tmp_path / "r.html").read_text()
    assert "Median latency of one call on each device" in page
    assert 'id="changes"' in page
    twin = variant(lambda result: result.update(device="ssh://pi@second"))
    apart = told_apart([load_bench(bench.source), twin])
    names = (f"Test CPU ({bench.source.stem})", "Test CPU (ssh://pi@second)")
    assert device_table(apart).columns[1:3] == names
    (tmp_path / "twin").mkdir()
    again = shutil.copy(bench.source, tmp_path / "twin" / bench.source.name)
    apart = told_apart([load_bench(bench.source), load_bench(again)])
    assert device_table(apart).columns[1:3] == tuple(f"Test CPU ({b.source})" for b in apart)
    turned = variant(lambda result: result["data"].update(labels="of another order"))
    assert device_table([bench, turned]).rows[0][3].text == "\N{EM DASH}"


def test_energy_is_shown_where_it_was_measured(bench, variant, tmp_path):
    def measured(result):
        for number, row in enumerate(result["models"]):
            row["energy_mj"] = {"median": 1.5 + number, "low": 1, "high": 2}

    other = variant(measured)
    page = build_report([], [other.source], tmp_path / "r.html").read_text()
    assert "Accuracy against energy" in page
    assert "1.50\N{NO-BREAK SPACE}mJ" in page
    page = build_report([], [bench.source], tmp_path / "s.html").read_text()
    assert "against energy" not in page


def test_threads_and_batches_tell_rows_apart(variant):
    def swept(result):
        for number, row in enumerate(result["models"]):
            row |= {"name": "net", "file": "net.tflite", "threads": 1 + number % 2, "batch": 1}
        result["models"][2]["batch"] = 8

    from edgecifar.benchmarks.report.verdict import bench_rows

    names = [row.name for row in bench_rows(variant(swept))]
    assert len(set(names)) == 3
    assert "net.tflite" not in names


def test_a_bench_of_the_first_images_shows_those(variant, flat_digits):
    def fewer(result):
        kept = 100
        data = result["data"]
        labels = unpack_classes(data["labels"], 10)[:kept]
        data.update(n=kept, labels=pack_classes(labels, 10))
        for row in result["models"]:
            said = unpack_classes(row["accuracy"]["predicted"], 10)[:kept]
            row["accuracy"].update(
                n=kept, predicted=pack_classes(said, 10), correct=pack_bits(said == labels)
            )

    (view,) = change_views([variant(fewer)], [], flat_digits.images)
    assert any(flips.images for flips in view.flips)
