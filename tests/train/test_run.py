import contextlib
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tf_keras as keras

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import checkpoint
from edgecifar.train.files import alone_in
from edgecifar.train.run import Run, open_run, start_run
from edgecifar.train.session import record, train


def test_a_run_says_how_it_came_about(digits, digits_run, quick_training):
    info = digits_run.info
    assert info["architecture"] == "resnet8"
    assert info["parameters"] == 78_666
    assert info["dataset"] == {"name": "digits", "fingerprint": digits.fingerprint}
    assert info["recipe"] == dataclasses.asdict(quick_training)
    assert info["versions"]["tensorflow"].startswith("2.")
    assert info["images_per_second"] > 0


def test_the_test_images_are_not_read_by_training(digits_run):
    assert "test" not in digits_run.metrics


def test_a_finished_run_is_not_overwritten(digits, digits_run, quick_training):
    with pytest.raises(EdgecifarError, match="is finished: --force starts it again"):
        train("resnet8", digits, quick_training, digits_run.path)


def test_other_settings_do_not_continue_a_run(digits, digits_run, quick_training):
    other = dataclasses.replace(quick_training, epochs=50)
    with pytest.raises(EdgecifarError, match="was begun with recipe"):
        train("resnet8", digits, other, digits_run.path)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["precious.txt", ".git"])
def test_a_folder_of_something_else_is_left_alone(digits, quick_training, tmp_path, name, force):
    (tmp_path / name).write_text("mine")
    with pytest.raises(EdgecifarError, match="exists and is not a run"):
        train("resnet8", digits, quick_training, tmp_path, force=force)
    assert (tmp_path / name).read_text() == "mine"


def test_the_name_of_the_data_makes_no_difference(digits, quick_training, tmp_path):
    begun = begin(tmp_path / "base", digits, quick_training)
    renamed = dataclasses.replace(digits, name="numbers")
    assert begin(tmp_path / "base", renamed, quick_training) == begun
    other = dataclasses.replace(renamed, fingerprint="another")
    with pytest.raises(EdgecifarError, match=r"begun with dataset\.name digits, not numbers"):
        begin(tmp_path / "base", other, quick_training)


def test_a_run_of_before_a_setting_existed_goes_on(digits, quick_training, tmp_path):
    begun = begin(tmp_path / "base", digits, quick_training)
    recipe = begun.info["recipe"]
    del recipe["augment"]["cutmix"]
    begun.update(recipe=recipe)
    assert begin(tmp_path / "base", digits, quick_training) == begun
    other = dataclasses.replace(
        quick_training, augment=dataclasses.replace(quick_training.augment, cutmix=0.5)
    )
    with pytest.raises(EdgecifarError, match=r"recipe\.augment\.cutmix 0\.0, not 0\.5"):
        begin(tmp_path / "base", digits, other)
    begun.update(recipe=recipe | {"momentum": 0.9})  # of which nothing is known here
    with pytest.raises(EdgecifarError, match=r"begun with recipe\."):
        begin(tmp_path / "base", digits, quick_training)


def test_the_working_folder_has_a_name(digits, quick_training, tmp_path, monkeypatch):
    (folder := tmp_path / "base").mkdir()
    monkeypatch.chdir(folder)
    run = begin(Path(), digits, quick_training)
    assert run.name == run.info["name"] == "base"
    assert run.beside("other") == tmp_path / "other"


def test_what_is_made_of_a_shipped_model_knows_it(tmp_path, monkeypatch, digits, quick_training):
    monkeypatch.chdir(tmp_path)
    nano = open_run(Path("nano"))
    made = begin(nano.beside("nano-qat"), digits, quick_training, parent=nano)
    assert made.original() == nano
    made.update(parent_model="another")
    assert made.original() is None


def begin(path, dataset, settings, *, force=False, **details):
    how = {"stage": "test", "seed": 0, "force": force} | details
    if "parent" not in how:
        how["architecture"] = "resnet8"
    return start_run(path, dataset, settings, **how)


def test_a_run_notes_that_a_package_was_updated_on_the_way(
    digits, quick_training, tmp_path, monkeypatch
):
    at_first = begin(tmp_path / "base", digits, quick_training).info["versions"]
    updated = at_first | {"numpy": "99.0"}
    monkeypatch.setattr("edgecifar.train.run.version", updated.get)
    for _ in range(2):  # the same version is noted once
        run = begin(tmp_path / "base", digits, quick_training)
    assert run.info["versions"] == at_first | {"numpy": f"{at_first['numpy']}, then 99.0"}


@pytest.fixture
def finished(digits, quick_training, tmp_path):
    """What counts as a finished run."""
    run = begin(tmp_path / "base", digits, quick_training)
    (run.path / "model.h5").write_bytes(b"weights")
    run.save_metrics({"validation": {}})
    return run


def test_what_only_one_of_two_runs_has_tells_them_apart(digits, quick_training, tmp_path):
    transferred = begin(tmp_path / "run", digits, quick_training, transfer={"weights": "none"})
    with pytest.raises(EdgecifarError, match=r"was begun with transfer .*, not None"):
        begin(transferred.path, digits, quick_training)
    begin(tmp_path / "other", digits, quick_training)
    with pytest.raises(EdgecifarError, match="was begun with transfer None, not"):
        begin(tmp_path / "other", digits, quick_training, transfer={"weights": "none"})


def test_force_replaces_a_run_and_an_empty_folder_needs_none(digits, quick_training, finished):
    empty = finished.beside("empty")
    empty.mkdir()
    assert begin(empty, digits, quick_training).info["name"] == "empty"
    assert not begin(finished.path, digits, quick_training, force=True).complete


@pytest.mark.parametrize("place", [".", "head", "rounds/2"])
def test_a_run_in_which_another_process_is_at_work_is_not_replaced(
    digits, quick_training, finished, place
):
    with alone_in(finished.path / place):
        with pytest.raises(EdgecifarError, match="another process is at work in"):
            begin(finished.path, digits, quick_training, force=True)
        assert finished.complete
    (finished.path / place / ".lock").touch()  # of one that was killed
    assert not begin(finished.path, digits, quick_training, force=True).complete


@pytest.mark.parametrize("killed", [False, True])
def test_a_finished_run_keeps_nothing_to_go_on_from(
    small_digits, quick_training, tmp_path, monkeypatch, killed
):
    run = begin(tmp_path / "base", small_digits, quick_training)
    phases, other = (".", "head", "rounds/1"), run.path / "other" / "checkpoints"
    for folder in (*(run.path / phase / "checkpoints" for phase in phases), other):
        (folder / "epoch-00001").mkdir(parents=True)
    (run.path / ".partial-1-model.h5").write_bytes(b"half")
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(inputs))
    if killed:
        monkeypatch.setattr(checkpoint, "discard", lambda _: sys.exit())
    with pytest.raises(SystemExit) if killed else contextlib.nullcontext():
        record(run, keras.Model(inputs, outputs), small_digits)
    assert run.complete
    assert not list(run.path.glob(".partial-*"))
    assert len(list(run.path.rglob("checkpoints"))) == (4 if killed else 1)
    assert other.exists()


def test_the_end_of_a_run_is_such_work_too(digits, digits_run):
    with alone_in(digits_run.path), pytest.raises(EdgecifarError, match="another process"):
        record(digits_run, None, digits)


@pytest.mark.parametrize("force", [False, True])
def test_a_kill_while_a_run_is_removed_leaves_no_half_of_it(
    digits, quick_training, finished, monkeypatch, force
):
    def killed(path):
        (Path(path) / "run.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(finished.path, digits, quick_training, force=True)
    assert not begin(finished.path, digits, quick_training, force=force).complete
    assert list(finished.path.parent.iterdir()) == [finished.path]


@pytest.mark.parametrize("force", [False, True])
def test_a_kill_at_the_first_file_leaves_a_folder_to_begin_in(
    digits, quick_training, tmp_path, force
):
    path = tmp_path / "run"
    script = (
        "import os, sys; from pathlib import Path; from edgecifar.train.files import write_json\n"
    )
    script += "os.replace = lambda *_: os._exit(9); write_json(Path(sys.argv[1]), {})"
    killed = subprocess.run([sys.executable, "-c", script, path / "run.json"], check=False)
    assert killed.returncode == 9
    assert len(list(path.iterdir())) == 1
    assert begin(path, digits, quick_training, force=force).info["name"] == "run"


@pytest.mark.parametrize("force", [False, True])
def test_what_a_run_is_made_of_is_never_replaced(digits, quick_training, finished, force):
    weights = {"file": "base", "sha256": finished.digest}
    inside = Run(finished.path / "rounds" / "inner")
    shutil.copytree(finished.path, inside.path)
    (inside.path / "model.h5").write_bytes(b"others")
    for origin in (
        {"parent": finished},
        {"parent": inside},
        {"teacher": {"runs": ["base"], "models": ["0" * 64, finished.digest]}},
        {"transfer": {"weights": weights}},
    ):
        with pytest.raises(EdgecifarError, match="starts from: give another --out") as caught:
            begin(finished.path, digits, quick_training, force=force, **origin)
        assert "--force" not in str(caught.value)
    assert finished.complete


def test_an_unknown_architecture_leaves_no_folder(digits, quick_training, tmp_path):
    with pytest.raises(EdgecifarError, match="did you mean resnet8"):
        train("resnet88", digits, quick_training, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(EdgecifarError, match="is not a run"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(EdgecifarError, match="is unfinished"):
        open_run(tmp_path)


def test_other_data_are_refused(digits, digits_run):
    other = dataclasses.replace(digits, name="others", fingerprint="0" * 64)
    with pytest.raises(EdgecifarError, match=r"was trained on digits.*give the same --data"):
        Run(digits_run.path).require_data(other)


def test_other_sizes_of_the_data_are_refused_by_size(digits, digits_run):
    train = dataclasses.replace(digits.train, images=digits.train.images[:, ::2, ::2])
    smaller = dataclasses.replace(digits, train=train, fingerprint="0" * 64)
    with pytest.raises(EdgecifarError, match="give the same --data, and --image-size 32x32"):
        Run(digits_run.path).require_data(smaller)


def test_without_cifar10_a_model_that_ships_says_where_to_put_it(digits):
    """Whoever named no --data can't be told to give the same."""
    run = open_run(Path("nano"))
    told = r"these data are digits .*CIFAR-10 with --data or EDGECIFAR_DATA.*`edgecifar data fetch`"
    with pytest.raises(EdgecifarError, match=told) as caught:
        run.require_data(digits)
    assert "the same" not in str(caught.value)


def test_force_leaves_a_folder_with_other_runs_alone(digits, quick_training, finished):
    """A recipe named like its architecture keeps its runs where `train` would put one."""
    other = Run(shutil.copytree(finished.path, finished.path / "net"))
    with pytest.raises(EdgecifarError, match=rf"holds other runs too, such as {other.path}: move"):
        begin(finished.path, digits, quick_training, force=True)
    assert other.complete
    assert finished.complete
