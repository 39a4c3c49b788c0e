"""What the documents say agrees with the results and the versions."""

import configparser
import re
from pathlib import Path

import edgecifar.runtime
from edgecifar.benchmarks.readme import documents

ROOT = Path(__file__).parents[1]


def test_figures_are_the_results():
    """If not: `python -m edgecifar.benchmarks.readme` writes them."""
    texts = documents(ROOT)
    assert {path.name for path in texts} >= {"README.md", "shipped.svg", "resnet8.md"}
    stale = [path.name for path, text in texts.items() if path.read_text("utf-8") != text]
    assert not stale
    readme = texts[ROOT / "README.md"]
    assert "| `resnet8.tflite` |" in readme
    assert "](train/zoo/resnet8.md)" in readme
    assert "](benchmarks/results/shipped.svg)" in readme.split("\n## ")[0]


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
