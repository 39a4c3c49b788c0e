import json

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.pipeline import run_recipe
from edgecifar.compress.quantize import Quantization
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture(scope="module")
def finished(digits, quick_training, tmp_path_factory):
    """A short recipe, carried out on the digits."""
    recipe = recipes.Recipe(
        architecture="resnet8",
        title="short",
        train=quick_training,
        quantize=Quantization(epochs=1),
        export=("float32", "onnx"),
    )
    out = tmp_path_factory.mktemp("recipe")
    return recipe, out, run_recipe(recipe, digits, out)


def test_every_file_is_measured_on_the_test_images(digits, finished):
    _, _, outcome = finished
    result = json.loads(outcome.bench.read_text())
    names = [row["name"] for row in result["models"]]
    assert names == ["resnet8-float32", "resnet8-float32", "resnet8-qat-int8"]
    assert all(row["accuracy"]["n"] == len(digits.test) for row in result["models"])
    assert result["models"][0]["ratio"]["value"] == 1
    float32, onnx, _ = (row["accuracy"]["top1"] for row in result["models"])
    assert float32 == onnx > 80


def test_the_report_says_that_the_images_are_digits(finished):
    _, _, outcome = finished
    page = outcome.report.read_text()
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert "short" in title
    assert "digits" in title


def test_a_second_run_trains_nothing_again(digits, finished):
    recipe, out, outcome = finished
    models = [run / "model.h5" for run in outcome.runs]
    before = [model.stat().st_mtime_ns for model in models]
    assert run_recipe(recipe, digits, out) == outcome
    assert [model.stat().st_mtime_ns for model in models] == before


def test_every_recipe_can_be_read():
    assert "demo" in recipes.names()
    for name in recipes.names():
        assert recipes.read(name).title


def test_a_recipe_of_the_user_s_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('architecture = "resnet8"\ntitle = "mine"\n[train]\nepochs = 3\n')
    assert recipes.read(str(path)).train.epochs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "no net"', "architecture"),
        ('architecture = "resnet8"\ntitle = "t"\n[tran]', "unknown setting tran: did you mean tr"),
        ("architecture =", r"mine\.toml is not valid TOML"),
    ],
)
def test_a_broken_recipe_is_explained(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(EdgecifarError, match=message):
        recipes.read(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [("dmeo", "unknown recipe 'dmeo': did you mean demo?"), ("gone.toml", "gone.toml is missing")],
)
def test_an_unknown_recipe_is_one_line(name, message):
    result = CliRunner().invoke(main, ["run", name, "--data", "digits"])
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
