import json
import shutil

import numpy as np
import pytest

from edgecifar.benchmarks.report.load import load_bench, load_run, sort_inputs
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import seal


def test_reads_what_a_run_holds(run_folders, flat_digits):
    run = load_run(run_folders[0])
    assert run.name == "mlp8"
    assert len(run.history["val_accuracy"]) == 25
    assert run.split == "test"
    assert run.accuracy.correct.mean() * 100 == pytest.approx(run.accuracy.top1)
    assert np.array_equal(run.labels, flat_digits.test[1])


def test_reads_a_run_that_has_only_begun(tmp_path, run_folders):
    shutil.copy(run_folders[0] / "run.json", tmp_path)
    run = load_run(tmp_path)
    assert (run.split, run.accuracy, run.exports) == (None, None, ())
    assert not run.history


def test_reads_what_a_bench_holds(bench_file, bench_result):
    bench = load_bench(bench_file)
    assert [model.kind for model in bench.models] == [
        "float32 TFLite",
        "int8 TFLite",
        "float32 TFLite",
    ]
    first = bench.models[0]
    assert first.latency.median == bench_result["models"][0]["latency_us"]["median"]
    assert first.accuracy.correct.mean() * 100 == pytest.approx(first.accuracy.top1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"kind": "train"}, "not a bench result"),
        ({"models": []}, "no models"),
        ({"models": [{"file": "x.tflite"}]}, "damaged"),
        ({"models": [{"name": "x", "accuracy": {"top1": 1, "n": 5, "correct": "%"}}]}, "damaged"),
        ({"models": [{"name": "x", "latency_us": {"p90": 1}}]}, "damaged"),
    ],
)
def test_bad_benches_are_named(tmp_path, bench_result, change, message):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | change)))
    with pytest.raises(EdgecifarError, match=message) as caught:
        load_bench(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"'])
def test_what_is_no_bench_is_refused(tmp_path, content):
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(EdgecifarError, match=r"bench\.json"):
        load_bench(path)


@pytest.mark.parametrize("name", ["history.csv", "predictions-test.npz"])
def test_damaged_parts_of_a_run_are_named(tmp_path, run_folders, name):
    folder = tmp_path / "run"
    shutil.copytree(run_folders[0], folder)
    (folder / name).write_text("epoch,loss\n1,high\n")
    with pytest.raises(EdgecifarError, match=name):
        load_run(folder)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_predictions_that_were_cut_off_are_damaged(tmp_path, run_folders, kept):
    folder = shutil.copytree(run_folders[0], tmp_path / "run")
    path = folder / "predictions-test.npz"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(
        EdgecifarError, match=r"predictions-test\.npz is damaged: run `edgecifar eval"
    ):
        load_run(folder)


def test_tells_folders_from_files(run_folders, bench_file, tmp_path):
    assert sort_inputs([bench_file, *run_folders]) == (run_folders, [bench_file])
    with pytest.raises(EdgecifarError, match="nowhere"):
        sort_inputs([tmp_path / "nowhere"])
    with pytest.raises(EdgecifarError, match="not a run"):
        load_run(tmp_path)
