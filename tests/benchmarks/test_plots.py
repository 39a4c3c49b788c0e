"""A page's drawings as files."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.commands import report
from edgecifar.benchmarks.report import figures
from edgecifar.benchmarks.report.build import contents, load
from edgecifar.benchmarks.report.plots import slug, svg_files
from edgecifar.benchmarks.report.study_load import load_study
from edgecifar.benchmarks.report.study_page import contents as study_contents
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import seal

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def files(tmp_path_factory, run_folders, bench_result):
    path = tmp_path_factory.mktemp("plots") / "bench.json"
    path.write_text(json.dumps(bench_result))
    return svg_files(contents(*load(run_folders, [path])))


def test_every_drawing_of_a_page_has_a_file(files):
    assert {
        "accuracy-against-latency.svg",
        "accuracy-against-size.svg",
        "mlp8-loss-by-epoch.svg",
        "mlp32-confusion-rates.svg",
        "mlp8-reliability.svg",
        "mlp32-precision-recall-and-f1-by-class.svg",
    } <= files.keys()


def test_a_file_needs_no_page(files):
    """Its colours, its title, its caption and the names of its marks are in it."""
    for name, svg in files.items():
        root = ElementTree.fromstring(svg)
        assert root.find(f"{SVG}desc").text, name
        assert "var(" not in svg, name
        width, height = float(root.get("width")), float(root.get("height"))
        inner = root.find(f"{SVG}svg")
        assert float(inner.get("x")) + float(inner.get("width")) <= width
        assert float(inner.get("y")) + float(inner.get("height")) <= height
    told = texts(files["accuracy-against-latency.svg"])
    assert told[0] == "Accuracy against latency"
    assert any(text.startswith("Up and left is better") for text in told)
    assert {"mlp32-float32", "mlp32-int8", "mlp8-float32"} <= {*told}
    assert texts(files["mlp8-confusion-counts.svg"])[0] == "mlp8, confusion: Counts"
    assert "mlp32-int8" not in texts(files["mlp8-confusion-counts.svg"])


def test_names_are_escaped_and_told_apart(tmp_path, bench_result):
    models = [dict(model) for model in bench_result["models"]]
    models[1]["name"] = "<a&b>-int8"
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        path.write_text(json.dumps(seal(bench_result | {"models": models})))
    found = svg_files(contents(*load([], paths)))
    assert {"bench-1-accuracy-against-size.svg", "bench-2-accuracy-against-size.svg"} <= {*found}
    assert "<a&b>-int8" in texts(found["bench-1-accuracy-against-size.svg"])
    assert slug("Öfter, x/y: ../z") == "öfter-x-y-..-z"


def test_the_drawings_of_a_study(small_study):
    found = svg_files(study_contents(load_study(small_study.result)))
    assert {"accuracy-of-each-model.svg", "accuracy-of-each-step.svg", "all-reliability.svg",
            "bench-1-accuracy-against-latency.svg"} <= found.keys()  # fmt: skip
    assert "Second" in texts(found["accuracy-against-size.svg"])
    own = texts(found["accuracy-of-each-model.svg"])  # which has a key of its own
    assert own.count("Second") == 1
    assert "int8 fine-tuned" in own  # as the table calls it


def test_the_command_writes_all_or_nothing(bench_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [str(bench_file), "--plots", "figures"]
    done = CliRunner().invoke(report, command)
    assert done.output.splitlines() == ["wrote report.html", "wrote figures"]
    shown = Path("figures/accuracy-against-size.svg")
    assert shown.read_text().startswith("<svg xmlns=")
    Path("report.html").unlink()
    told = CliRunner().invoke(report, command)
    assert isinstance(told.exception, EdgecifarError)
    assert "figures/accuracy-against" in str(told.exception)
    assert not Path("report.html").exists()
    shown.write_text("old")
    assert CliRunner().invoke(report, [*command, "--force"]).exit_code == 0
    assert shown.read_text() != "old"


def test_numbers_in_a_drawing_are_whole_and_names_are_no_formulas():
    history = {
        "epoch": np.arange(1, 4),
        "loss": np.array([0.004, 0.005, 0.006]),
        "val_loss": np.array([0.0045, 0.005, 0.0055]),
    }
    drawn = re.findall(r"<text[^>]*>([^<]*)<", figures.curve(history, "loss", 2, "a").svg)
    ticks = [float(text) for text in drawn if text.startswith("0.00")]
    assert len(ticks) > 3
    assert len(set(ticks)) == len(ticks)
    names = ("$1_to_$5", "net-1.2345")
    matrix = figures.confusion(np.eye(2), names, rates=True, name="b").svg
    assert set(names) <= {*re.findall(r">([^<]*)<", matrix)}
