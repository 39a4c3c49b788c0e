"""What README and changelog say agrees with the results and the versions."""

import configparser
import re
from pathlib import Path

import edgecifar.runtime
from edgecifar.benchmarks.readme import fill

ROOT = Path(__file__).parents[1]


def test_the_readme_s_figures_are_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| `resnet8.tflite` |" in text
    assert fill(text, ROOT / "benchmarks/results") == text


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
