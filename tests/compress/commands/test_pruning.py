import pytest
from click.testing import CliRunner

from edgecifar.compress.commands.prune import prune
from edgecifar.compress.commands.pruning import recipe_for
from edgecifar.compress.prune import Pruning
from edgecifar.compress.sparsify import Sparsification
from edgecifar.runtime.errors import EdgecifarError


def test_options_choose_the_recipe():
    assert recipe_for(macs=0.4, epochs=3) == Pruning("macs", 0.4, epochs=3)
    assert recipe_for(latency=0.6, importance="l1") == Pruning("latency", 0.6, importance="l1")
    assert recipe_for(sparsity=0.9, epochs=2) == Sparsification(0.9, epochs=2)
    assert recipe_for(two_four=True) == Sparsification(0.5, "2:4")


def test_names_say_what_is_gone():
    assert recipe_for(macs=0.4).run_name("net") == "net-p60"
    assert recipe_for(sparsity=0.8).run_name("net") == "net-s80"
    assert recipe_for(two_four=True).run_name("net") == "net-2of4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "choose one of .* none is given"),
        ({"macs": 0.5, "params": 0.5}, "macs and params are given"),
        ({"sparsity": 0.5, "two_four": True}, "sparsity and 2:4 are given"),
        ({"sparsity": 0.5, "multiple": 4}, "--multiple is for --macs"),
        ({"macs": 0.0}, "--macs is 0: give a share"),
        ({"sparsity": 1.0}, "--sparsity is 1: give a share"),
        ({"macs": 0.5, "rounds": 0}, "rounds is 0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(EdgecifarError, match=message):
        recipe_for(**options)


def test_command_prints_the_table_and_the_verdict(digits_run, tmp_path):
    arguments = f"{digits_run.path} --data digits --params 0.7 --importance bn --rounds 1"
    out = ["--epochs", "1", "--learning-rate", "0.01", "--out", str(tmp_path / "smaller")]
    result = CliRunner().invoke(prune, [*arguments.split(), *out], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "round 1 of 1:" in result.output
    assert "latency, microseconds" in result.output
    assert "validation images)" in " ".join(result.output.split())
    assert (tmp_path / "smaller" / "verdict.json").exists()
