import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgecifar.benchmarks import report as report_package
from edgecifar.benchmarks.commands import report
from edgecifar.benchmarks.report.build import build_report, results_csv, results_markdown
from edgecifar.benchmarks.report.load import load_bench
from edgecifar.benchmarks.report.publish import dataset_of
from edgecifar.runtime import modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import pack_classes, seal

VOID = {"meta", "link", "img", "br", "wbr"}


class Outline(HTMLParser):
    """Ids, headings, images, links to other places and unclosed tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.headings, self.images, self.elsewhere, self.anchors = [], [], [], [], []
        self.unlabelled, self._open = 0, []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID:
            self._open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(values)
        if tag == "svg" and not (values.get("aria-label") or values.get("aria-hidden")):
            self.unlabelled += 1
        for name in ("src", "href"):
            target = values.get(name, "#")
            if target.startswith("#"):
                self.anchors += [target[1:]] if target != "#" else []
            elif not target.startswith("data:"):
                self.elsewhere.append(target)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def full(tmp_path_factory, run_folders, bench_result, flat_digits):
    """The text of a page with everything on it."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "bench.json").write_text(json.dumps(bench_result))
    out = folder / "report.html"
    return build_report(
        run_folders, [folder / "bench.json"], out, images=flat_digits.images
    ).read_text()


def test_page_stands_alone_and_is_small(full):
    outline = Outline(full)
    assert outline.elsewhere == []
    assert "<script" not in full
    assert not re.search(r"url\((?!#)|@import", full)
    assert len(full) < 2_000_000


def test_page_is_accessible(full):
    outline = Outline(full)
    assert outline.headings[:2] == [1, 2]
    assert outline.headings.count(1) == 1
    pairs = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in pairs), "a level of headings is skipped"
    assert outline.images, "no examples of confused pairs"
    assert all(image["alt"] for image in outline.images)
    assert outline.unlabelled == 0
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.anchors) <= set(outline.ids)


def test_page_says_digits(full, run_folders, tmp_path):
    assert "digits" in re.search("<title>(.*?)</title>", full)[1]
    assert "not of CIFAR-10" in full
    page = build_report(run_folders, [], tmp_path / "r.html", title="My nets").read_text()
    assert "<h1>My nets (on digits)</h1>" in page


def test_page_shows_the_figures(full, run_folders, bench_result):
    metrics = json.loads((run_folders[0] / "metrics.json").read_text())["test"]
    assert f"{metrics['top1']:.2f}" in full
    for model in bench_result["models"]:
        assert f"{model['accuracy']['low']:.2f} to {model['accuracy']['high']:.2f}" in full
    for word in (
        "McNemar",
        "Reliability",
        "Precision, recall and F1",
        "taken for",
        "avx2",
        "Recipe",
    ):
        assert word in full


def test_one_run_without_a_bench_is_enough(run_folders, tmp_path):
    page = build_report(run_folders[:1], [], tmp_path / "r.html").read_text()
    Outline(page)
    assert 'id="results"' not in page
    assert "mlp8 on scikit-learn digits" in page


def test_one_bench_without_runs_is_enough(bench_file, tmp_path):
    page = build_report([], [bench_file], tmp_path / "r.html").read_text()
    Outline(page)
    assert 'id="training"' not in page
    assert 'id="errors"' not in page


def test_a_bare_bench_of_one_file_is_enough(tmp_path):
    bench = {
        "schema": 1,
        "kind": "bench",
        "models": [{"name": "x", "latency_us": {"median": 40.0}}],
    }
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench)))
    page = build_report([], [path], tmp_path / "r.html").read_text()
    Outline(page)
    assert "40.0\N{NO-BREAK SPACE}µs" in page
    path.write_text(json.dumps(seal(bench | {"valid": False, "doubts": ["it was hot"]})))
    page = build_report([], [path], tmp_path / "r.html").read_text()
    assert "it was hot" in page
    assert "If its times were valid" not in page  # there is nothing to choose


def test_a_run_that_has_only_begun_is_enough(run_folders, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("run.json", "history.csv"):
        shutil.copy(run_folders[0] / name, tmp_path / "run")
    page = build_report([tmp_path / "run"], [], tmp_path / "r.html").read_text()
    assert "Without test figures yet: mlp8" in page
    assert "Loss by epoch" in page


def test_throttled_latencies_are_called_invalid(tmp_path, bench_result):
    path = tmp_path / "bench.json"
    doubts = ["the firmware reports: throttled"]
    path.write_text(json.dumps(seal(bench_result | {"valid": False, "doubts": doubts})))
    page = build_report([], [path], tmp_path / "r.html").read_text()
    assert "The latencies are not valid" in page
    assert doubts[0] in page
    shown = results_markdown([], [load_bench(path)])
    assert f"These latencies are not valid: {doubts[0]}." in shown
    assert "digit images" in shown.splitlines()[0], "what a reader must know comes first"
    records = csv.DictReader(results_csv([], [load_bench(path)]).splitlines())
    assert {record["doubts"] for record in records} == set(doubts)
    one = {"models": bench_result["models"][:2], "valid": False, "doubts": doubts}
    path.write_text(json.dumps(seal(bench_result | one)))
    assert "**If its times were valid: ship" in results_markdown([], [load_bench(path)])


def test_a_csv_says_where_and_how_each_row_was_measured(tmp_path, bench_result):
    paths = tmp_path / "here.json", tmp_path / "there.json"
    for path, board in zip(paths, (None, "Raspberry Pi 4"), strict=True):
        changed = bench_result | {"environment": bench_result["environment"] | {"board": board}}
        path.write_text(json.dumps(seal(changed)))
    text = results_csv([], [load_bench(path) for path in paths])
    records = list(csv.DictReader(text.splitlines()))
    assert [record["bench"] for record in records] == ["here.json"] * 3 + ["there.json"] * 3
    assert {r["device"] for r in records if r["bench"] == "there.json"} == {"Raspberry Pi 4"}
    first = bench_result["models"][0]
    assert records[0]["threads"] == str(first.get("threads") or "")
    assert records[0]["batch"] == "1"
    assert records[0]["data"] == "digits"


def test_pictures_of_other_images_are_refused(bench_file, bench_result, tmp_path, flat_digits):
    names, labels = np.array(bench_result["data"]["classes"]), flat_digits.test[1]
    for path, said in (("same", labels), ("other", np.roll(labels, 1))):
        np.savez(
            tmp_path / f"{path}.npz",
            x_train=flat_digits.images, y_train=labels,
            x_test=flat_digits.images, y_test=said, classes=names,
        )  # fmt: skip
    bench = load_bench(bench_file)
    order = dataset_of(tmp_path / "same.npz", []).test.labels
    told = bench_result | {"data": bench_result["data"] | {"labels": pack_classes(order, 10)}}
    (tmp_path / "told.json").write_text(json.dumps(seal(told)))
    assert dataset_of(tmp_path / "same.npz", [], [load_bench(tmp_path / "told.json")])
    for path in ("same", "other"):
        with pytest.raises(EdgecifarError, match="has not the test images of"):
            dataset_of(tmp_path / f"{path}.npz", [], [bench])


def test_photos_of_several_sizes_are_scaled_as_a_bench_has_scaled_them(
    tmp_path, bench_file, bench_result
):
    random = np.random.default_rng(0)
    for label in range(2):
        for part, count in (("train", 9), ("test", 3)):
            folder = tmp_path / "photos" / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (20 + number, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    with pytest.raises(EdgecifarError, match="mixed image sizes"):
        dataset_of(tmp_path / "photos", [], [load_bench(bench_file)])
    models = [row | {"input": {"shape": [1, 16, 18, 3]}} for row in bench_result["models"]]
    unlabelled = {key: value for key, value in bench_result["data"].items() if key != "labels"}
    path = tmp_path / "scaled.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models, "data": unlabelled})))
    found = dataset_of(tmp_path / "photos", [], [load_bench(path)])
    assert found.test.images.shape == (6, 16, 18, 3)


def test_names_are_escaped(tmp_path, bench_result):
    models = [dict(model) for model in bench_result["models"]]
    models[1]["name"] = "<script>alert(1)</script>-int8"
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(seal(bench_result | {"models": models})))
    assert "<script" not in build_report([], [path], tmp_path / "r.html").read_text()


def test_parity_comes_from_the_exported_files(run_folders, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folders[0], folder)
    (folder / "exports").mkdir()
    file = folder / "exports" / "mlp8-int8.onnx"
    file.write_bytes(b"\x08\x08\x3a\x00")  # ir_version 8 and an empty graph
    parity = {"n": 200, "agreement": 99.5, "largest_difference": 0.013, "per_class": {"two": -0.5}}
    modelfile.append(file, {"name": "mlp8-int8", "parity": parity}, None)
    page = build_report([folder], [], tmp_path / "r.html").read_text()
    assert "Parity with Keras" in page
    assert "99.50" in page
    assert "two: \N{MINUS SIGN}0.50" in page


def test_images_must_be_those_of_the_predictions(run_folders, tmp_path, flat_digits):
    with pytest.raises(EdgecifarError, match="10 images for 797 predictions"):
        build_report(run_folders, [], tmp_path / "r.html", images=flat_digits.images[:10])
    assert not (tmp_path / "r.html").exists()


def test_command_writes_all_forms(run_folders, bench_file, bench_result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--out", "r.html", "--markdown", "r.md", "--csv", "r.csv", "--title", "Mine"]
    done = CliRunner().invoke(report, [str(bench_file), str(run_folders[0]), *options])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == ["wrote r.html", "wrote r.md", "wrote r.csv"]
    assert "<h1>Mine (on digits)</h1>" in Path("r.html").read_text()
    assert "| mlp32-int8 (int8 TFLite) |" in Path("r.md").read_text()
    rows = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [model["name"] for model in bench_result["models"]]
    assert float(rows[1]["top1"]) == bench_result["models"][1]["accuracy"]["top1"]
    assert rows[0]["speedup"] == ""


def test_command_writes_nothing_if_one_output_exists(bench_file, tmp_path):
    (tmp_path / "r.md").write_text("mine")
    out = ["--out", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]
    done = CliRunner().invoke(report, [str(bench_file), *out])
    assert isinstance(done.exception, EdgecifarError)
    assert not (tmp_path / "r.html").exists()


def test_command_without_inputs_is_wrong_usage():
    assert CliRunner().invoke(report, []).exit_code == 2


def _luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _contrast(first, second):
    """WCAG 2.2's contrast ratio."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_is_enough(scheme):
    css = (Path(report_package.__file__).parent / "page.css").read_text()
    found = dict(re.findall(r"--([\w-]+): (#\w{6});", css.split("@media")[scheme]))
    for back in ("page", "surface"):
        for text in ("ink", "muted", "link", "accent"):
            assert _contrast(found[text], found[back]) >= 4.5, (text, back)
    for index in range(6):
        assert _contrast(found[f"series-{index}"], found["surface"]) >= 3, index
    assert _contrast(found["ink"], found["notice"]) >= 4.5
    assert _contrast(found["on-accent"], found["accent"]) >= 4.5


def test_a_hundred_classes_stay_readable():
    from edgecifar.benchmarks.report.figures import confusion

    rng = np.random.default_rng(0)
    matrix = np.diag(rng.integers(60, 100, 100)) + (rng.uniform(size=(100, 100)) < 0.1)
    plot = confusion(matrix, [f"class{i}" for i in range(100)], rates=True, name="c")
    assert plot.svg.count("<text") < 100, "labels of a hundred classes would lie on each other"
    assert len(plot.svg) < 400_000
