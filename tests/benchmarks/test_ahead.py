import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.ahead.commands import ahead
from edgecifar.benchmarks.ahead.pack import pack
from edgecifar.benchmarks.ahead.take import take
from edgecifar.benchmarks.chain import Chain
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import session
from edgecifar.train.augment import augment, draw
from edgecifar.train.normalisation import normalise

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

TEACHER = """
architecture = "edge-8-s16"
title = "teacher"
[train]
epochs = 12
batch_size = 32
learning_rate = 0.1
ema = 0.9
precision = "float32"
[train.augment]
flip = "none"
crop = 1
cutmix = 0.5
"""
PUPIL = TEACHER.replace("[train]", 'teachers = ["teacher.toml"]\n[train]', 1).replace(
    'title = "teacher"', 'title = "pupil"\nseed = 1'
)
PUPIL = PUPIL.replace("epochs = 12", "epochs = 4") + "[distil]\nviews = 3\n"


@pytest.fixture(scope="module")
def finished(small_digits, once):
    """Two recipes and their package, carried out; copy it, don't change it."""

    def make(folder):
        (folder / "teacher.toml").write_text(TEACHER)
        (folder / "pupil.toml").write_text(PUPIL)
        names = tuple(str(folder / f"{name}.toml") for name in ("teacher", "pupil"))
        pack(names, small_digits, folder / "package", seeds=(1, 2))
        (folder / "told").write_text(carry_out(folder / "package"))
        return folder

    return once("ahead", make)


@pytest.fixture
def package(finished, tmp_path):
    return shutil.copytree(finished / "package", tmp_path / "package")


def carry_out(package):
    return subprocess.run(
        [sys.executable, "machine.py", "."], cwd=package, check=True, capture_output=True, text=True
    ).stdout


def rewritten(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_comes_back_is_the_finished_run(finished, package, small_digits, tmp_path):
    teacher, pupil, again = take(package, small_digits, tmp_path / "runs")
    folders = [run.path.parent.name for run in (teacher, pupil, again)]
    assert folders == ["teacher", "pupil-seed1", "pupil-seed2"]
    assert pupil.info["teacher"] == again.info["teacher"]
    assert [kept["title"] for kept in pupil.info["taught_by"]] == ["teacher"]
    assert pupil.digest != again.digest
    with (teacher.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 13)]
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    found = teacher.metrics["validation"]
    assert found["top1"] == pytest.approx(100 * float(best["val_accuracy"]), abs=0.01)
    assert found["loss"] == pytest.approx(float(best["val_loss"]), abs=1e-3)
    assert found["top1"] > 80
    assert teacher.info["trained_on"].startswith("cpu, JAX ")
    assert teacher.info["computed_in"] == "float32"
    # The recipe goes on from there, and nothing is taken twice.
    for run, name in ((teacher, "teacher"), (pupil, "pupil"), (again, "pupil")):
        recipe = replace(recipes.read(str(finished / f"{name}.toml")), seed=run.info["seed"])
        assert Chain(recipe, small_digits, run.path.parent).trained().digest == run.digest
    assert take(package, small_digits, tmp_path / "runs") == []


def test_the_commands(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = ["--data", "digits", "--image-size", "8"]
    told = CliRunner().invoke(ahead, ["take", str(finished / "package"), *where])
    assert told.exit_code == 0, told.output
    assert "runs/teacher/edge-8-s16: " in told.output
    again = CliRunner().invoke(ahead, ["take", str(finished / "package"), *where])
    assert "all results were taken already" in again.output
    told = CliRunner().invoke(ahead, ["pack", str(finished / "teacher.toml"), *where])
    assert "wrote package" in told.output
    assert (tmp_path / "package" / "machine.py").exists()
    # What was carried out of one package is known by another of the same recipe.
    plans = [json.loads((f / "package" / "plan.json").read_text()) for f in (finished, tmp_path)]
    assert plans[0]["fits"][0] == plans[1]["fits"][0]


def test_the_machine_does_nothing_twice(package):
    results = package / "results"
    before = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    (results / "pupil-seed1.json").unlink()
    told = carry_out(package)
    assert "teacher" not in told.replace("pupil-seed1-teacher", "")
    assert "pupil-seed1 4/4" in told
    for path, written in before.items():
        assert (path.stat().st_mtime_ns == written) == (path.stem != "pupil-seed1")
    # Results of another package of that name don't count.
    rewritten(results / "pupil-seed1.json", fit="another")
    assert "pupil-seed1 4/4" in carry_out(package)


def test_a_machine_without_its_gpu_says_so_first(finished):
    first = (finished / "told").read_text().splitlines()[0]
    assert re.fullmatch(r"JAX [\d.]+ computes on cpu; if there is a GPU, this JAX isn't .*", first)


def test_what_is_equal_is_kept_and_compiled_once(finished):
    told = [line for line in (finished / "told").read_text().splitlines() if "compiling" in line]
    assert [line.split()[1] for line in told] == [
        "teacher-epoch.mlir",
        "teacher-validation.mlir",
        "pupil-seed1-epoch.mlir",
        "pupil-seed1-validation.mlir",
        "pupil-seed1-teacher.mlir",
    ]
    start = np.load(finished / "package" / "starts" / "teacher.npz")
    assert len(start.files) < len(start["numbers"]) / 2


def test_a_fit_stops_early_if_its_recipe_does(small_digits, tmp_path):
    recipe = TEACHER.replace("ema = 0.9", "early_stopping = 2").replace("= 12", "= 40")
    (tmp_path / "one.toml").write_text(recipe)
    pack((str(tmp_path / "one.toml"),), small_digits, tmp_path / "package")
    carry_out(tmp_path / "package")
    record = json.loads((tmp_path / "package" / "results" / "one.json").read_text())
    assert len(record["history"]) == record["best_epoch"] + 2 < 40
    (run,) = take(tmp_path / "package", small_digits, tmp_path / "runs")
    assert run.info["best_epoch"] == record["best_epoch"]


def test_a_pupil_hears_what_is_said_of_the_view_it_sees(package, small_digits, tmp_path):
    import tensorflow as tf

    from edgecifar.train.ahead.machine import Machine

    run = take(package, small_digits, tmp_path / "runs")[0]
    plan = json.loads((package / "plan.json").read_text())
    fit, machine = plan["fits"][1], Machine(package)
    answers = machine._answers(fit)
    assert len(answers) == 3
    assert machine._answers(fit)[0] is answers[0]  # for another pupil too
    assert machine._answers({**fit, "seed": 2})[0] is not answers[0]
    images, settings = small_digits.train.images, recipes.read(plan["fits"][0]["source"]).train
    draw_here = tf.function(draw, jit_compile=True)  # as the machine's compiler draws
    for view, said in enumerate(answers):
        numbers = draw_here(len(images), settings.augment, tf.constant([1, view]))
        others = images[numbers.other.numpy()]
        seen = normalise(augment(images, numbers, settings.augment, others))
        expected = run.load_model().predict(seen, verbose=0)
        assert np.allclose(np.exp(np.float32(said)), expected, atol=2e-3)

    heard = []

    def epoch(state, *, answers, moment, **_):
        heard.append((tuple(np.asarray(moment)), answers))
        return [0.5, 0.5], {}

    def validation(state, **_):
        return [0.5, 0.5], {}

    validation.how = {"writes": []}
    kinds = {fit["programs"][key]["code"]: key for key in ("epoch", "validation")}
    stand_ins = SimpleNamespace(epoch=epoch, validation=validation)
    machine._program = lambda how: getattr(stand_ins, kinds[how["code"]])
    machine._answers = lambda fit: ["first", "second", "third"]
    machine.fit(fit)
    assert heard == [((1, 0), "first"), ((1, 1), "second"), ((1, 2), "third"), ((1, 3), "first")]


def test_the_rates_are_those_of_the_recipe(finished):
    rates = np.load(finished / "package" / "starts" / "teacher.npz")["rates"]
    assert len(rates) == 12
    assert rates.max() == pytest.approx(0.1, rel=0.02)
    assert rates[0, 0] == 0
    assert rates[-1, -1] < 0.001


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("crop = 1", "mixup = 0.4"), "mixup, which XLA can't compile"),
        (("float32", "float16"), "set precision to bfloat16"),
        (("[train]", 'teachers = ["other.toml"]\n[train]'), "name it before"),
    ],
)
def test_what_cannot_be_packed_is_refused(change, told, small_digits, tmp_path):
    (tmp_path / "other.toml").write_text(TEACHER)
    (tmp_path / "one.toml").write_text(TEACHER.replace(*change, 1))
    with pytest.raises(EdgecifarError, match=told):
        pack((str(tmp_path / "one.toml"),), small_digits, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_names_that_stand_for_two_recipes_are_refused(finished, small_digits, tmp_path):
    names = [str(finished / f"{name}.toml") for name in ("teacher", "pupil")]
    with pytest.raises(EdgecifarError, match="two recipes are called teacher"):
        pack((names[0], names[0]), small_digits, tmp_path / "package")
    (tmp_path / "teacher.toml").write_text(TEACHER.replace("0.1", "0.2"))
    with pytest.raises(EdgecifarError, match="another of that name was given"):
        pack((str(tmp_path / "teacher.toml"), names[1]), small_digits, tmp_path / "package")
    with pytest.raises(EdgecifarError, match="choose another --out"):
        pack((names[0],), small_digits, tmp_path)


def test_results_that_are_not_the_package_s_are_refused(package, small_digits, digits, tmp_path):
    results, runs = package / "results", tmp_path / "runs"
    with pytest.raises(EdgecifarError, match="is no package"):
        take(results, small_digits, runs)
    with pytest.raises(EdgecifarError, match="other images"):
        take(package, digits, runs)
    kept = (results / "teacher.json").read_text()
    (results / "teacher.json").unlink()
    with pytest.raises(EdgecifarError, match="take its results first"):
        take(package, small_digits, runs)
    (results / "teacher.json").write_text(kept)
    rewritten(results / "teacher.json", fit="another")
    with pytest.raises(EdgecifarError, match="are of another package"):
        take(package, small_digits, runs)
    (results / "teacher.json").write_text(kept)
    (results / "teacher.npz").write_bytes((results / "teacher.npz").read_bytes()[:1000])
    with pytest.raises(EdgecifarError, match="copy results again"):
        take(package, small_digits, runs)
    assert not runs.exists()
    for path in results.glob("*.json"):
        path.unlink()
    with pytest.raises(EdgecifarError, match="copy its results back"):
        take(package, small_digits, runs)


def test_a_run_that_was_made_otherwise_stays(package, small_digits, tmp_path):
    _, pupil, other = take(package, small_digits, tmp_path / "runs")
    pupil.update(brought_back=None)
    shutil.rmtree(other.path)
    with pytest.raises(EdgecifarError, match=r"pupil-seed1.* move it away, or give another --runs"):
        take(package, small_digits, tmp_path / "runs")
    assert other.complete  # the others are taken


def test_what_a_killed_take_left_is_taken_and_not_trained_anew(
    finished, package, small_digits, tmp_path, monkeypatch
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            take(package, small_digits, tmp_path / "runs")
    recipe = recipes.read(str(finished / "teacher.toml"))
    chain = Chain(recipe, small_digits, tmp_path / "runs" / "teacher")
    with pytest.raises(EdgecifarError, match="trained elsewhere: repeat `edgecifar ahead take`"):
        chain.trained()
    assert len(take(package, small_digits, tmp_path / "runs")) == 3
    assert chain.trained().complete


def test_a_pupil_is_not_ascribed_to_another_teacher(package, small_digits, tmp_path):
    teacher, pupil, _ = take(package, small_digits, tmp_path / "runs")
    teacher.update(brought_back="another")
    shutil.rmtree(pupil.path)
    (package / "results" / "teacher.json").unlink()
    with pytest.raises(EdgecifarError, match="teacher/edge-8-s16 isn't the teacher"):
        take(package, small_digits, tmp_path / "runs")
    assert not pupil.path.exists()


def test_the_others_go_on_when_a_fit_diverges(small_digits, tmp_path):
    for name, rate in (("wild", "1e30"), ("tame", "0.1")):
        recipe = TEACHER.replace("learning_rate = 0.1", f"learning_rate = {rate}")
        (tmp_path / f"{name}.toml").write_text(recipe.replace("= 12", "= 2"))
    names = tuple(str(tmp_path / f"{name}.toml") for name in ("wild", "tame"))
    pack(names, small_digits, tmp_path / "package")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        carry_out(tmp_path / "package")
    assert "wild: the loss is no longer finite in epoch 1" in failed.value.stdout
    assert "failed: wild." in failed.value.stderr
    (run,) = take(tmp_path / "package", small_digits, tmp_path / "runs")
    assert run.path.parent.name == "tame"


def test_large_seeds_wrap_as_tensorflow_s_do():
    import tensorflow as tf

    from edgecifar.train.ahead import machine

    seed = 3_000_000_000
    assert list(np.asarray(machine._moment(seed, 1))) == [tf.cast(seed, tf.int32).numpy(), 1]


def test_what_training_does_not_depend_on_may_change(finished, package, small_digits, tmp_path):
    plan = json.loads((package / "plan.json").read_text())
    for fit in plan["fits"]:
        source = Path(fit["source"])
        (tmp_path / source.name).write_text(f"threads = 2\n{source.read_text()}")
        fit["source"] = str(tmp_path / source.name)
    (package / "plan.json").write_text(json.dumps(plan))
    assert len(take(package, small_digits, tmp_path / "runs")) == 3
    (tmp_path / "teacher.toml").write_text(TEACHER.replace("epochs = 12", "epochs = 13"))
    with pytest.raises(EdgecifarError, match="has changed since"):
        take(package, small_digits, tmp_path / "runs")
