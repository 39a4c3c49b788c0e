"""Another seed of a recipe beside the model that ships."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.documents.repeat import main, with_repeats
from edgecifar.benchmarks.finished import read_finished
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import zoo
from edgecifar.train.files import read_json, write_json
from edgecifar.train.run import open_run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def entry():
    """The entry of the model that ships, with no repeat yet."""
    return zoo.find("resnet8").info | {"repeats": []}


def test_another_seed_shows_how_far_luck_goes(entry, finished_with):
    other = finished_with(seed=1)
    told = with_repeats(entry, [read_finished(other)])
    (repeat,) = told["repeats"]
    assert repeat["seed"] == 1
    assert repeat["int8"]["top1"] == zoo.find("resnet8").test("int8")["top1"]
    assert told | {"repeats": []} == entry
    for run, key, value in (
        ("resnet8", "recipe", {}),
        ("resnet8-qat", "recipe", {}),
        ("resnet8-qat", "keep_float", ["dense"]),
        ("resnet8", "teacher", {"runs": ["small"]}),
        ("resnet8", "teacher", {"models": ["0" * 64]}),
    ):
        path = other / run / "run.json"
        whole = read_json(path)
        write_json(path, whole | {key: value})
        with pytest.raises(EdgecifarError, match=f"has another {key}: it is no repeat"):
            with_repeats(entry, [read_finished(other)])
        write_json(path, whole)


def test_a_seed_counts_once(entry, recipe, finished_with):
    with pytest.raises(EdgecifarError, match="has the same seed, 0, as another run of resnet8"):
        with_repeats(entry, [read_finished(recipe)])
    other = read_finished(finished_with(seed=1))
    with pytest.raises(EdgecifarError, match="has the same seed, 1, as another"):
        with_repeats(with_repeats(entry, [other]), [other])
    with pytest.raises(EdgecifarError, match="has the same seed, 1, as another"):
        with_repeats(entry, [other, other])


def test_a_repeat_is_taught_by_the_same_teacher_or_by_itself(entry, finished_with):
    other = finished_with(seed=1)

    def taught(models):
        model = other / "resnet8" / "model.h5"
        model.write_bytes(model.read_bytes() + b"another")  # as another seed would
        path = other / "resnet8-qat" / "run.json"
        own = open_run(other / "resnet8").digest
        told = {"runs": ["resnet8"], "models": models or [own]}
        write_json(path, read_json(path) | {"parent_model": own, "teacher": told})
        return read_finished(other)

    itself = {"runs": ["resnet8"], "models": [entry["float"]["sha256"]]}
    entry["int8"] = entry["int8"] | {"run": entry["int8"]["run"] | {"teacher": itself}}
    assert len(with_repeats(entry, [taught(None)])["repeats"]) == 1
    with pytest.raises(EdgecifarError, match="has another teacher: it is no repeat"):
        with_repeats(entry, [taught(["0" * 64])])


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """What documents are made from, in the working folder."""
    root = tmp_path / "repository"
    for name in ("benchmarks/results", "train/zoo"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.h5", "*.html"))
    for name in ("README.md", "benchmarks/README.md"):
        shutil.copy(ROOT / name, root / name)
    monkeypatch.chdir(root)
    return root


def test_a_repeat_is_added_without_the_run_that_shipped(repository, finished_with):
    folder = repository / "train" / "zoo"
    write_json(folder / "resnet8.json", read_json(folder / "resnet8.json") | {"repeats": []})
    result = CliRunner().invoke(main, ["resnet8", str(finished_with(seed=7))])
    assert result.exit_code == 0, result.output
    assert result.output == "wrote train/zoo/resnet8.json\nwrote train/zoo/resnet8.md\n"
    assert [repeat["seed"] for repeat in read_json(folder / "resnet8.json")["repeats"]] == [7]
    assert "top-1 % with seed 7" in (folder / "resnet8.md").read_text()


def test_only_what_ships_has_repeats(repository, finished_with):
    result = CliRunner().invoke(main, ["resnet", str(finished_with(seed=7))])
    assert result.exit_code == 1
    assert result.output == "Error: no model 'resnet' ships: did you mean resnet8?\n"
