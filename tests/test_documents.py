"""What the documents say agrees with the results and the versions."""

import configparser
import re
from pathlib import Path

import edgecifar.runtime
from edgecifar.benchmarks.checks import instructions
from edgecifar.benchmarks.documents.readme import documents
from edgecifar.runtime.results import read
from edgecifar.train import zoo

ROOT = Path(__file__).parents[1]


def test_figures_are_the_results():
    """If not: `python -m edgecifar.benchmarks.documents.readme` writes them."""
    texts = documents(ROOT)
    assert {path.name for path in texts} >= {"README.md", "shipped.svg", "resnet8.md"}
    stale = [path.name for path, text in texts.items() if path.read_text("utf-8") != text]
    assert not stale
    readme = texts[ROOT / "README.md"]
    assert "| `resnet8.tflite` |" in readme
    assert "](train/zoo/resnet8.md)" in readme
    assert "](benchmarks/results/shipped.svg)" in readme.split("\n## ")[0]


def test_every_shipped_model_is_measured():
    """Or tables, picture and cards would leave it out without a word."""
    results = ROOT / "benchmarks" / "results"
    benched = {row["sha256"] for row in read(results / "shipped.json")["models"]}
    counts = read(results / "instructions.json", kind=instructions.KIND)["models"]
    counted = {row["sha256"] for row in counts}
    for model in zoo.entries():
        assert model.info["int8"]["sha256"] in benched & counted, model.name
        # Those trained once say so in their cards.
        assert model.info["repeats"] or model.name in ("resnet8", "small", "base"), model.name


def test_both_distributions_have_one_version():
    root = configparser.ConfigParser()
    root.read(ROOT / "setup.cfg")
    version = edgecifar.runtime.__version__
    assert root["metadata"]["version"] == version
    assert re.search(
        rf"edgecifar-runtime\S* == {re.escape(version)}$", root["options"]["install_requires"], re.M
    )


def test_every_command_is_in_the_readme():
    from edgecifar.runtime.commands import main

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in main.list_commands(None) if f"`{name}`" not in text} == set()
