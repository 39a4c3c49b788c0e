"""What the documents say agrees with the results and the versions."""

import configparser
import re
import shlex
from itertools import takewhile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import edgecifar.runtime
from edgecifar.benchmarks.checks import instructions
from edgecifar.benchmarks.documents.readme import documents
from edgecifar.runtime.results import read
from edgecifar.train import zoo

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("README.md", *(f"results/*.{kind}" for kind in ("html", "png", "svg", "toml")))


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


@pytest.fixture
def workstation():
    """How the workstation's distribution is built."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_both_distributions_have_one_version(workstation):
    version = edgecifar.runtime.__version__
    assert workstation["metadata"]["version"] == version
    required = workstation["options"]["install_requires"]
    assert re.search(rf"edgecifar-runtime\S* == {re.escape(version)}$", required, re.M)


def test_the_wheel_takes_every_package_and_its_files(workstation):
    tops = re.findall(r"(\S+) = (\S+)", workstation["options"]["package_dir"])
    packages = {
        ".".join((name, *path.parent.relative_to(ROOT / top).parts)): path.parent
        for name, top in tops
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert sorted(workstation["options"]["packages"].split()) == sorted(packages)
    files = {
        path
        for _, top in tops
        for path in (ROOT / top).rglob("*.*")
        if path.suffix not in (".py", ".pyc")
    }
    taken = {
        path
        for name, patterns in workstation["options.package_data"].items()
        for pattern in patterns.split(", ")
        for path in packages[name].glob(pattern)
    }
    left = {path for pattern in LEFT_OUT for path in (ROOT / "benchmarks").glob(pattern)}
    assert files - taken == left


def test_every_command_is_in_the_readme():
    from edgecifar.runtime.commands import main

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in main.list_commands(None) if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("name", ["README.md", "runtime/README.md", "benchmarks/README.md"])
def test_commands_that_are_shown_can_be_typed(name, monkeypatch):
    from edgecifar.runtime.commands import main

    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    shown = [*re.findall(r"```sh\n(.*?)```", text, re.S), *re.findall(r"^ {4}.*", text, re.M)]
    lines = re.findall(r"(?:^ *|[|:] )edgecifar (.*)", "\n".join(shown), re.M)
    assert len(lines) > 10
    monkeypatch.setattr(click.Path, "convert", lambda _, name, *__: Path(name))  # none need exist
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    for line in lines:
        words = takewhile(lambda word: word != "|", shlex.split(line, comments=True))
        told = CliRunner().invoke(main, [*words])
        assert told.exit_code == 0, f"edgecifar {line}\n{told.output}"
