import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.ahead import pack, take
from edgecifar.benchmarks.chain import Chain
from edgecifar.runtime.errors import EdgecifarError

TEACHER = """
architecture = "edge-8-s16"
title = "teacher"
[train]
epochs = 12
batch_size = 32
learning_rate = 0.1
ema = 0.9
[train.augment]
flip = "none"
crop = 1
"""
PUPIL = TEACHER.replace("[train]", 'teachers = ["teacher.toml"]\n[train]', 1).replace(
    'title = "teacher"', 'title = "pupil"\nseed = 1'
)
PUPIL = PUPIL.replace("epochs = 12", "epochs = 4") + "[distil]\nviews = 3\n"


@pytest.fixture(scope="module")
def small_digits(digits):
    from edgecifar.train.data import load

    return load("digits", image_size=8)


@pytest.fixture(scope="module")
def folder(small_digits, tmp_path_factory):
    """A package of two recipes, carried out."""
    folder = tmp_path_factory.mktemp("ahead")
    (folder / "teacher.toml").write_text(TEACHER)
    (folder / "pupil.toml").write_text(PUPIL)
    names = tuple(str(folder / f"{name}.toml") for name in ("teacher", "pupil"))
    pack(names, small_digits, folder / "package")
    carry_out(folder / "package")
    return folder


def carry_out(package):
    return subprocess.run(
        [sys.executable, "machine.py", "."], cwd=package, check=True, capture_output=True, text=True
    ).stdout


def test_what_comes_back_is_the_finished_run(folder, small_digits):
    teacher, pupil = take(folder / "package", small_digits, folder / "runs")
    assert (teacher.path.parent.name, pupil.path.parent.name) == ("teacher", "pupil-seed1")
    with (teacher.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 13)]
    best = max(float(row["val_accuracy"]) for row in rows)
    assert teacher.metrics["validation"]["top1"] == pytest.approx(100 * best, abs=1)
    assert best > 0.8
    assert teacher.info["trained_on"].startswith("cpu, JAX ")
    # The recipe goes on from there, and nothing is taken twice.
    for run in (teacher, pupil):
        recipe = recipes.read(str(folder / f"{run.path.parent.name.split('-')[0]}.toml"))
        assert Chain(recipe, small_digits, run.path.parent).trained().digest == run.digest
    assert take(folder / "package", small_digits, folder / "runs") == []


def test_the_machine_does_nothing_twice(folder):
    results = folder / "package" / "results"
    before = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    (results / "pupil.json").unlink()
    told = carry_out(folder / "package")
    assert "teacher" not in told
    assert "pupil 4/4" in told
    for path, written in before.items():
        assert (path.stat().st_mtime_ns == written) == path.stem.startswith("teacher")


def test_the_rates_are_those_of_the_recipe(folder):
    start = np.load(folder / "package" / "starts" / "teacher.npz")
    rates = start["rates"]
    assert len(rates) == 12
    assert rates.max() == pytest.approx(0.1, rel=0.02)
    assert rates[0, 0] == 0
    assert rates[-1, -1] < 0.001


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("crop = 1", "rotation = 10.0"), "rotation, which XLA can't compile"),
        (("ema = 0.9", "early_stopping = 3"), "set early_stopping to 0"),
        (("[train]", 'teachers = ["other.toml"]\n[train]'), "name it before"),
    ],
)
def test_what_cannot_be_packed_is_refused(change, told, small_digits, tmp_path):
    (tmp_path / "one.toml").write_text(TEACHER.replace(*change, 1))
    with pytest.raises(EdgecifarError, match=told):
        pack((str(tmp_path / "one.toml"),), small_digits, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_package_of_something_else_is_refused(folder, small_digits, digits, tmp_path):
    with pytest.raises(EdgecifarError, match="is no package"):
        take(tmp_path, small_digits, tmp_path / "runs")
    with pytest.raises(EdgecifarError, match="other images"):
        take(folder / "package", digits, tmp_path / "runs")
    with pytest.raises(EdgecifarError, match="choose another --out"):
        pack((), small_digits, folder)
    shutil.copytree(folder, other := tmp_path / "other")
    changed = (folder / "teacher.toml").read_text()
    (folder / "teacher.toml").write_text(changed.replace("epochs = 12", "epochs = 13"))
    try:
        with pytest.raises(EdgecifarError, match="has changed since"):
            take(other / "package", small_digits, tmp_path / "runs")
    finally:
        (folder / "teacher.toml").write_text(changed)
    (other / "package" / "results" / "teacher.json").unlink()
    with pytest.raises(EdgecifarError, match="take its package first"):
        take(other / "package", small_digits, tmp_path / "runs")
