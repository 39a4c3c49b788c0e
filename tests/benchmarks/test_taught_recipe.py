import dataclasses
import shutil

import pytest

from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.chain import Chain
from edgecifar.benchmarks.pipeline import run_recipe
from edgecifar.compress import judge
from edgecifar.compress.judge import verdict_of
from edgecifar.runtime import benchmark
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import zoo
from edgecifar.train.run import open_run

TEACHER = """
architecture = "edge-8-s16"
title = "teacher"
[train]
batch_size = 64
learning_rate = 0.05
"""
LARGE = [
    f"{folder}/edge-64r-s256rr-s384rr"
    for folder in ("zoo-teacher-quick", "zoo-teacher-second-seed1-quick")
]
PUPIL = TEACHER.replace('"teacher"', '"pupil"') + "[distil]\nviews = 3\n"


@pytest.fixture(autouse=True)
def _short_benches(short_bench, monkeypatch):
    monkeypatch.setattr(benchmark, "bench", short_bench)


@pytest.fixture
def digits(small_digits):
    """The small ones: nothing here rests on what a net learns."""
    return small_digits


@pytest.fixture
def folder(tmp_path):
    """Three recipes, of which one teaches the next, as base, small and nano do."""
    (tmp_path / "base.toml").write_text(TEACHER)
    for name, teacher in (("small", "base"), ("nano", "small")):
        text = PUPIL.replace("[train]", f'teachers = ["{teacher}.toml"]\n[train]', 1)
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def test_teachers_are_trained_first_in_folders_of_their_own(digits, folder):
    recipe = recipes.read(str(folder / "nano.toml")).shortened()
    recipe = dataclasses.replace(recipe, export=("float32",))
    out = folder / "runs" / "nano-quick"
    outcome = run_recipe(recipe, digits, out)
    trained = sorted(path.parent.parent.name for path in folder.glob("runs/*/edge-8-s16/model.h5"))
    assert trained == ["base-quick", "nano-quick", "small-quick"]
    stages = {
        path.parent.name: open_run(path).info["stage"] for path in folder.glob("runs/*/edge-8-s16")
    }
    assert stages == {"base-quick": "train", "small-quick": "distil", "nano-quick": "distil"}
    assert "than its teacher" in verdict_of(open_run(outcome.runs[0]))
    quantized = open_run(outcome.runs[1]).info
    assert (quantized["stage"], quantized["teacher"]["views"]) == ("quantize", 3)
    assert [path.name for path in outcome.files] == [
        "edge-8-s16-float32.tflite",
        "edge-8-s16-qat-int8.tflite",
    ]
    # Teachers teach: they are neither quantized nor looked at on test images.
    assert not (folder / "runs" / "small-quick" / "edge-8-s16-qat").exists()
    assert "test" not in open_run(folder / "runs" / "small-quick" / "edge-8-s16").metrics
    # Without them the pupil is taken as it is, unless the recipe asks for another.
    shutil.rmtree(folder / "runs" / "small-quick")
    (folder / "runs" / "base-quick").rename(folder / "runs" / "untaught")
    assert Chain(recipe, digits, out).trained().path == outcome.runs[0]
    slower = dataclasses.replace(recipe.train, learning_rate=0.01)
    warmer = dataclasses.replace(recipe.distil, temperature=5.0)
    more = (*recipe.teachers, str(folder / "base.toml"))
    for change, told in (
        ({"train": slower}, "learning_rate"),
        ({"distil": warmer}, "temperature"),
        ({"teachers": more}, r"teacher\.runs"),
    ):
        with pytest.raises(EdgecifarError, match=told):
            Chain(dataclasses.replace(recipe, **change), digits, out).trained()
    with pytest.raises(EdgecifarError, match="begun with stage train, not distil"):
        Chain(recipe, digits, folder / "runs" / "untaught").trained()
    (folder / "base.toml").write_text(TEACHER.replace("0.05", "0.04"))
    with pytest.raises(EdgecifarError, match="that its teachers' recipes no longer make"):
        Chain(recipe, digits, out).trained()
    assert not (folder / "runs" / "small-quick").exists()


def test_a_teacher_that_ships_is_not_trained_again(digits, folder, monkeypatch, tmp_path):
    recipe, place = (str(folder / f"{name}.toml") for name in ("small", "base"))
    made = Chain(recipes.read(place).shortened(), digits, folder / "made").trained()
    recipe_then = made.info["recipe"]
    del recipe_then["augment"]["cutmix"]  # a setting that wasn't there when it was shipped
    made.update(recipe=recipe_then)
    entry = {
        "name": made.name,
        "recipe": place,
        "float": {
            "file": "model.h5",
            "sha256": made.digest,
            "run": made.info,
            "metrics": made.metrics,
        },
    }
    monkeypatch.setattr(zoo, "entries", lambda: (zoo.Shipped(entry, made.path),))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def student(name, recipe):
        return Chain(recipes.read(recipe).shortened(), digits, folder / name / "small").trained()

    taught = student("first", recipe)
    assert not (folder / "first" / "base-quick").exists()
    assert taught.info["teacher"]["models"] == [made.digest]
    (folder / "base.toml").write_text(TEACHER.replace("0.05", "0.04"))
    other = student("second", recipe)
    assert (folder / "second" / "base-quick" / "edge-8-s16" / "model.h5").exists()
    assert other.info["teacher"]["models"] != [made.digest]


def test_what_a_pupil_can_t_do_is_found_before_its_teacher_is_trained(digits, folder):
    recipe = recipes.read(str(folder / "small.toml")).shortened()
    for change, told in (
        ({"architecture": "smal"}, "smal"),
        (
            {"train": dataclasses.replace(recipe.train, batch_size=100_000)},
            "don't fill a batch of 100000",
        ),
    ):
        with pytest.raises(EdgecifarError, match=told):
            next(Chain(dataclasses.replace(recipe, **change), digits, folder / "small").runs())
    with pytest.raises(EdgecifarError, match=r"train\.label_smoothing blurs what teachers say"):
        dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, label_smoothing=0.1))
    assert not list(folder.glob("*/*"))


def test_a_recipe_can_t_teach_itself(digits, folder):
    text = (folder / "base.toml").read_text()
    (folder / "base.toml").write_text('teachers = ["nano.toml"]' + text)
    recipe = recipes.read(str(folder / "nano.toml")).shortened()
    with pytest.raises(EdgecifarError, match=r"small\.toml is among its own teachers"):
        run_recipe(recipe, digits, folder / "runs" / "nano")


def test_the_zoo_is_taught_by_larger_models():
    nano, small, base = (recipes.read(f"zoo-{name}") for name in ("nano", "small", "base"))
    assert nano.teachers == ("advanced",)
    assert small.teachers == base.teachers == ("zoo-teacher", "zoo-teacher-second")
    assert [recipes.read(name).seed for name in base.teachers] == [0, 1]
    assert [r.architecture for r in (nano, small, base)] == ["nano", "small", "base"]
    # Else a student would never begin: see `Teacher.require_fit`.
    assert {r.train.label_smoothing for r in (nano, small, base)} == {0}


@pytest.fixture(scope="module")
def zoo_runs(tmp_path_factory):
    """Where teachers are trained once for all of their students."""
    return tmp_path_factory.mktemp("zoo")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "taught_by"),
    [
        ("nano", ["advanced-quick/advanced"]),
        ("small", LARGE),
        ("base", LARGE),
        ("resnet8", []),
    ],
)
def test_a_quick_zoo(digits, zoo_runs, monkeypatch, model, taught_by):
    """But for what other tests make of these networks: verdicts of steps, and further files."""
    monkeypatch.setattr(judge, "judge", lambda *_: None)
    recipe = recipes.read(f"zoo-{model}").shortened()
    recipe = dataclasses.replace(recipe, export=("float32",))
    outcome = run_recipe(recipe, digits, zoo_runs / f"zoo-{model}-quick")
    assert outcome.report.exists()
    assert outcome.files[-1].name == f"{model}-qat-int8.tflite"
    assert all((zoo_runs / teacher / "model.h5").exists() for teacher in taught_by)
