import json

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgecifar.runtime.commands import main
from edgecifar.runtime.labelled import read_labelled
from edgecifar.train.data import load
from edgecifar.train.data.options import data_options


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call `edgecifar data …` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["data", *map(str, arguments)])


def test_info_table(run, containers):
    result = run("info", "--data", containers["zips"])
    assert result.exit_code == 0, result.output
    assert "zips: 32x32 RGB" in result.output
    assert load(containers["zips"]).fingerprint in result.output
    assert "3 classes" in result.output
    assert "nought" in result.output


def test_info_json(run, containers):
    found = json.loads(run("info", "--data", containers["zips"], "--json").stdout)
    assert found["images"] == {"train": 270, "validation": 30, "test": 100}
    assert [row["name"] for row in found["classes"]] == ["nought", "one", "two"]
    assert sum(row["test"] for row in found["classes"]) == 100
    assert found["image_size"] == [32, 32]


def test_a_preview_is_a_png(run, containers):
    refused = run("preview", "--data", containers["zips"], "--out", "p.jpg")
    assert refused.exit_code == 1
    assert "p.jpg does not end in .png: name it p.png" in refused.output


def test_preview(run, containers, tmp_path):
    first = run("preview", "--data", containers["zips"])
    assert first.exit_code == 0, first.output
    content = (tmp_path / "preview.png").read_bytes()
    with Image.open(tmp_path / "preview.png") as image:
        assert image.height >= 3 * 64
        assert image.width >= 10 * 64
    refused = run("preview", "--data", containers["zips"])
    assert (refused.exit_code, "--force" in refused.output) == (1, True)
    assert run("preview", "--data", containers["zips"], "--force").exit_code == 0
    assert (tmp_path / "preview.png").read_bytes() == content
    run("preview", "--data", containers["zips"], "--force", "--seed", 1)
    assert (tmp_path / "preview.png").read_bytes() != content


def test_pack_is_what_a_device_reads(run, containers, tmp_path):
    assert run("pack", "--data", containers["python tar"], "--out", "test.npz").exit_code == 0
    found, dataset = read_labelled(tmp_path / "test.npz"), load(containers["python tar"])
    assert np.array_equal(found.images, dataset.test.images)
    assert np.array_equal(found.labels, dataset.test.labels)
    assert found.fingerprint == read_labelled(containers["zips"]).fingerprint
    assert found.dataset_fingerprint == dataset.fingerprint
    assert found.name == "cifar10"


def test_pack_some_of_a_split(run, containers, tmp_path):
    options = ("--data", containers["zips"], "--out", "some.npz", "--split", "train")
    assert run("pack", *options, "--limit", 31).exit_code == 0
    found = read_labelled(tmp_path / "some.npz", split="train")
    assert sorted(np.bincount(found.labels)) == [10, 10, 11]
    assert run("pack", *options).exit_code == 1
    assert run("pack", *options, "--force").exit_code == 0
    assert len(read_labelled(tmp_path / "some.npz", split="train").labels) == 270


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("info", "--data", "nowhere"), 1, "Error: nowhere does not exist: check"),
        (("info", "--image-size", "big"), 2, "'big' is not a size: give pixels as 96"),
        (("info", "--image-size", "0"), 2, "is not a size"),
        (("pack", "--data", "digits", "--out", "x.zip"), 1, "does not end in .npz: name it x.npz"),
        (("pack", "--data", "digits"), 2, "--out"),
        (("pack", "--data", "digits", "--out", "x.npz", "--limit", "4"), 1, "pack at least 10"),
        (("fetch", "mnist"), 2, "mnist"),
    ],
)
def test_wrong_use(run, arguments, status, message):
    result = run(*arguments)
    assert result.exit_code == status
    assert message in result.output
    assert "Traceback" not in result.output
    if status == 1:
        assert len(result.output.strip().splitlines()) == 1


def test_fetch_without_a_network(run):
    result = run("fetch", "--url", "http://127.0.0.1:9/x.tar.gz")
    assert result.exit_code == 1
    assert result.output.startswith("Error: http://127.0.0.1:9/x.tar.gz can't be reached")


@pytest.mark.parametrize(("text", "size"), [("96", (96, 96)), ("24x32", (24, 32))])
def test_data_options(text, size):
    seen = {}

    @click.command()
    @data_options
    def command(**chosen):
        seen.update(chosen)

    CliRunner().invoke(command, ["--data", "x", "--image-size", text, "--skip-corrupt"])
    assert seen["image_size"] == size
    assert (str(seen["data"]), seen["skip_corrupt"]) == ("x", True)


def test_a_preview_among_the_photos_is_refused(run, containers, tmp_path):
    """It would be an image without a class."""
    refused = run(
        "preview", "--data", containers["folders"], "--out", containers["folders"] / "p.png"
    )
    assert refused.exit_code == 1
    assert "would lie among the images" in refused.output + refused.stderr
    beside = containers["zips"] / "p.png"
    assert run("preview", "--data", containers["zips"], "--out", beside).exit_code == 0
    beside.unlink()
