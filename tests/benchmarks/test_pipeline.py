import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.benchmarks import chain, commands
from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.chain import Chain, Made, require_feasible
from edgecifar.benchmarks.pipeline import is_finished, run_recipe
from edgecifar.compress import fine_tune, quantize
from edgecifar.compress.buffers import zero_share
from edgecifar.compress.judge import verdict_of
from edgecifar.compress.prune import Pruning
from edgecifar.compress.sparsify import sparsity
from edgecifar.compress.steps import take
from edgecifar.runtime import benchmark, modelfile, results
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.labelled import read_labelled
from edgecifar.train.data.pack import pack
from edgecifar.train.run import open_run
from edgecifar.train.settings import Training
from edgecifar.train.transfer import FINE_TUNING, FROM_RUN, HEAD_FROM_RUN, Head

CHAIN = """
title = "a chain"
architecture = "edge-16-s32r-s32"
self_distil = true
export = ["float32", "onnx"]
[train]
epochs = 5
batch_size = 16
learning_rate = 0.05
ema = 0.9
[train.augment]
flip = "none"
crop = 2
[distil]
views = 1
[quantize]
epochs = 1
learning_rate = 0.002
[[variants]]
prune = { share = 0.6, rounds = 1, epochs = 1, learning_rate = 0.02 }
sparsify = { sparsity = 0.5, ramp = 1, epochs = 1, learning_rate = 0.02 }
quantize = { ema = 0.5 }
"""
NET = "edge-16-s32r-s32"
QUANTIZE_3 = """
architecture = "resnet8"
title = "t"
quantize = 3
[[variants]]
prune = { share = 0.5 }
quantize = { epochs = 1 }
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "chain.toml"
    path.write_text(CHAIN)
    return recipes.read(str(path))


@pytest.fixture(scope="module")
def finished(digits, recipe, short_bench, once):
    """A chain from training to a sparse int8 file of fewer filters, killed on its way."""
    ends = iter([None, KeyboardInterrupt])  # of fine-tuning with fewer filters, then with zeros

    def end(held):
        if error := next(ends):
            raise error

    def kill_and_finish(out):
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(fine_tune, "require_held", end)
            with pytest.raises(KeyboardInterrupt):
                run_recipe(recipe, digits, out)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("model.h5")}
        return run_recipe(recipe, digits, out), before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "bench", short_bench)
        return once("chain", kill_and_finish)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the chain's folder, to be written to."""
    return shutil.copytree(finished[0].bench.parent, tmp_path / "chain")


def runs_of(outcome):
    return {path.name.removeprefix(NET): open_run(path) for path in outcome.runs}


@pytest.mark.slow
def test_every_file_is_measured_on_the_test_images(digits, finished):
    outcome, _ = finished
    result = json.loads(outcome.bench.read_text())
    names = [row["name"].removeprefix(NET) for row in result["models"]]
    variant = ["-p40-s50-int8", "-p40-s50-qat-int8"]
    assert names == ["-float32", "-float32", "-qat-int8", *variant]
    assert all(row["accuracy"]["n"] == len(digits.test) for row in result["models"])
    assert result["models"][0]["ratio"]["value"] == 1
    float32, onnx, *_ = (row["accuracy"]["top1"] for row in result["models"])
    assert float32 == onnx > 80


@pytest.mark.slow
def test_a_killed_chain_goes_on_where_it_stood(finished):
    outcome, before = finished
    assert {path.parent.name.removeprefix(NET) for path in before} == {"", "-qat", "-p40"}
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert [*runs_of(outcome)] == ["", "-qat", "-p40", "-p40-s50", "-p40-s50-qat"]
    history = (outcome.runs[3] / "ramp" / "history.csv").read_text().splitlines()
    assert len(history) == 2  # the head, and one epoch: it wasn't raised twice


@pytest.mark.slow
def test_every_step_keeps_what_earlier_ones_won(finished):
    runs = runs_of(finished[0])
    macs = {name: run.info["macs"] for name, run in runs.items()}
    assert macs["-p40-s50-qat"] == macs["-p40-s50"] == macs["-p40"] <= 0.6 * macs[""]
    zeros = {name: sparsity(runs[name].load_model()) for name in ("-p40-s50", "-p40-s50-qat")}
    assert zeros["-p40-s50-qat"] == zeros["-p40-s50"] == runs["-p40-s50"].info["sparsity"]
    assert zeros["-p40-s50"] == pytest.approx(0.5, abs=0.01)
    file = finished[0].files[-1]
    assert zero_share(modelfile.read(file).payload) > 0.49
    parents = [run.info["parent"] for run in runs.values()]
    assert parents == [None, NET, NET, f"{NET}-p40", f"{NET}-p40-s50"]


@pytest.mark.slow
def test_the_float_model_teaches_and_is_asked_once(finished):
    runs = runs_of(finished[0])
    taught = {name for name, run in runs.items() if run.info.get("teacher")}
    assert taught == {"-qat", "-p40", "-p40-s50", "-p40-s50-qat"}
    answers = finished[0].bench.parent / "answers"
    assert [path.name for path in answers.glob("*.npy")] == ["view-000.npy"]
    assert not any((run.path / "teacher").exists() for run in runs.values())


@pytest.mark.slow
def test_every_step_has_its_verdict(finished):
    verdicts = {name: verdict_of(run) for name, run in runs_of(finished[0]).items()}
    assert verdicts.pop("") is None
    assert all("validation images" in verdict for verdict in verdicts.values())
    assert "no speed-up is to be expected" in verdicts["-p40-s50"]
    assert "than float32" in verdicts["-p40-s50-qat"]


@pytest.mark.slow
def test_the_report_says_that_the_images_are_digits(finished):
    page = finished[0].report.read_text()
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert "a chain" in title
    assert "digits" in title
    assert "10 training images of the class" in page


@pytest.mark.slow
def test_its_images_are_those_of_a_packed_file(digits, recipe, copied, tmp_path):
    """So that `compare` takes the recipe's bench beside one with --data."""
    packed, bench = tmp_path / "digits.npz", copied / "bench.json"
    pack(digits, "test", packed)
    found = json.loads(bench.read_text())
    assert found["data"]["fingerprint"] == read_labelled(packed).fingerprint
    assert found["data"]["dataset_fingerprint"] == digits.fingerprint
    data = {"fingerprint": digits.fingerprint}  # as of older versions
    for told, done in ((data, True), (data | {"fingerprint": "0" * 64}, False)):
        older = found | {"data": found["data"] | told}
        del older["data"]["dataset_fingerprint"]
        bench.write_bytes(results.as_bytes(results.seal(older)))
        assert is_finished(recipe.is_that_of, digits, copied) == done


@pytest.mark.slow
def test_a_file_that_can_t_be_measured_leaves_no_bench(
    digits, recipe, finished, copied, monkeypatch
):
    assert is_finished(recipe.is_that_of, digits, copied)
    made = [Made(open_run(copied / path.name), ()) for path in finished[0].runs]
    failed = {"models": [{"name": "net", "error": "it is broken"}]}
    monkeypatch.setattr(Chain, "runs", lambda self: made)
    monkeypatch.setattr(benchmark, "bench", lambda *_, **__: failed)
    before = (copied / "bench.json").read_bytes()
    with pytest.raises(EdgecifarError, match="net can't be measured: it is broken"):
        run_recipe(recipe, digits, copied)
    assert (copied / "bench.json").read_bytes() == before


def untrained(step, parent, dataset, out, *, force, **how):
    """Take a step that is forced by changing the model that is there."""
    if not force:
        return take(step, parent, dataset, out, force=force, **how)
    run = open_run(out)
    model = run.load_model()
    model.set_weights([weight / 2 for weight in model.get_weights()])
    run.save_model(model)
    return run


@pytest.mark.slow
def test_what_another_recipe_made_is_named_and_force_makes_it_anew(
    digits, recipe, finished, copied, monkeypatch
):
    """And with it what came from it, and nothing else; what is the same isn't touched either."""
    monkeypatch.setattr(chain, "take", untrained)
    monkeypatch.setattr(quantize, "prepare", lambda model, *_, **__: model)  # it's refused
    models = [copied / path.name / "model.h5" for path in finished[0].runs]
    before = [model.stat().st_mtime_ns for model in models]
    (variant,) = recipe.variants
    sparser = replace(variant, sparsify=replace(variant.sparsify, ema=0.5))
    changed = replace(recipe, variants=(sparser,))
    made = Chain(changed, digits, copied).runs()
    message = r"-s50 was begun with recipe\.ema 0\.99, not 0\.5: --force"
    with pytest.raises(EdgecifarError, match=message):
        list(made)
    assert [model.stat().st_mtime_ns for model in models] == before
    list(Chain(changed, digits, copied, force=True).runs())
    after = [model.stat().st_mtime_ns for model in models]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ('quantize = { keep_float = ["stemm"] }', "no layer is called 'stemm'.*stem"),
        ("[[variants]]\nprune = { share = 0.01 }", "--macs 0.01 can't be met"),
        ('[[variants]]\nprune = { keep = ["x"] }', "no layer is called 'x'"),
        ('[[variants]]\nsparsify = { keep = ["x"] }', "no layer is called 'x'"),
        (
            '[[variants]]\nprune = { share = 0.5 }\nquantize = { keep_float = ["x"] }',
            "no layer is called 'x'",
        ),
    ],
)
def test_a_step_that_can_t_be_taken_stops_it_before_any_training(digits, tmp_path, asked, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'architecture = "{NET}"\ntitle = "t"\n{asked}\n')
    with pytest.raises(EdgecifarError, match=message):
        run_recipe(recipes.read(str(path)), digits, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_step_added_to_a_finished_run_is_asked_first(digits, recipe, finished):
    out = finished[0].bench.parent
    more = recipes.Variant(prune=Pruning(share=0.01))
    with pytest.raises(EdgecifarError, match=r"--macs 0\.01 can't be met"):
        next(Chain(replace(recipe, variants=(*recipe.variants, more)), digits, out).runs())


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_carried_out(digits, name):
    require_feasible(recipes.read(name), digits)


def test_every_recipe_can_be_read():
    assert "demo" in recipes.names()
    for name in recipes.names():
        assert recipes.read(name).title


def test_a_recipe_of_the_user_s_own(tmp_path):
    text = 'architecture = "resnet8"\ntitle = "mine"\n[train]\nepochs = 3\n'
    assert _read(text, tmp_path).train.epochs == 3


def test_a_recipe_may_export_its_variants_alone(tmp_path):
    text = 'architecture = "nano"\ntitle = "t"\nfine_tune_int8 = false\nexport = []\n'
    recipe = _read(text + "[[variants]]\nprune = { share = 0.5 }\n", tmp_path)
    assert (recipe.export, recipe.variants[0].export) == ((), ("int8",))


def test_files_are_looked_for_beside_the_recipe_that_names_them(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "base.toml").write_text(
        'architecture = "nano"\ntitle = "t"\nteachers = ["teacher.toml"]'
    )
    heir = tmp_path / "heir.toml"
    heir.write_text('base = "old/base.toml"')
    assert recipes.read(str(heir)).teachers == (str(tmp_path / "old" / "teacher.toml"),)


def test_variants_state_only_what_differs(tmp_path):
    text = CHAIN + '[[variants]]\nprune = { share = 0.5 }\nexport = ["float32"]\n'
    first, second = _read(text, tmp_path).variants
    # of the variant, of the recipe's own table, and of the defaults
    assert (first.quantize.ema, first.quantize.learning_rate, first.quantize.epochs) == (
        0.5,
        0.002,
        1,
    )
    assert (second.quantize, second.prune.rounds, second.sparsify) == (None, 3, None)
    assert second.run_names("net") == ("net-p50",)


def _read(text, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return recipes.read(str(path))


def test_quick_means_one_epoch_of_the_head_too():
    short = recipes.read("efficientnet_lite0").shortened()
    assert (short.transfer.head.epochs, short.train.epochs, short.quantize.epochs) == (1, 1, 1)


def test_a_recipe_is_known_by_what_settles_its_results(recipe):
    stored = recipe.as_json()
    assert recipe.is_that_of(stored | {"title": "another", "threads": 2})
    (variant,) = recipe.variants
    for change in (
        {"distil": replace(recipe.distil, views=2)},
        {"quantize": replace(recipe.quantize, epochs=2)},
        {"variants": (replace(variant, distil=False),)},
        {"teachers": ("zoo-base",)},
        {"fine_tune_int8": False},
        {"seed": 1},
    ):
        assert not replace(recipe, **change).is_that_of(stored), change
    assert not recipe.is_that_of(stored | {"of another version": 1})
    shorter = replace(recipe, variants=())
    assert shorter.is_that_of(stored, variants=False)
    assert not replace(shorter, seed=1).is_that_of(stored, variants=False)
    left_out = {key: value for key, value in stored.items() if key != "transfer"}
    assert recipe.is_that_of(left_out), "a setting that is newer than the result"


def test_the_folder_names_recipe_and_seed():
    assert recipes.folder_name("advanced") == "advanced"
    assert recipes.folder_name("mine/net.toml", seed=2, quick=True) == "net-seed2-quick"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "no net"', "architecture"),
        (CHAIN + "[[variants]]\n", "a variant changes nothing: give it prune or sparsify"),
        (
            CHAIN + "[[variants]]\nprun = { share = 0.5 }",
            r"variants\.prun: did you mean prune",
        ),
        (CHAIN + "[[variants]]\nprune = { share = 2.0 }", "give a share between 0 and 1"),
        (CHAIN + CHAIN[CHAIN.index("[[") :], "two variants are called .*-p40-s50: leave one out"),
        (
            CHAIN + "[[variants]]\nprune = { share = 0.6 }",
            "variants make edge-16-s32r-s32-p40 in two ways: let them agree",
        ),
        ('architecture = "resnet8"\ntitle = "t"\n[tran]', "unknown setting tran: did you mean tr"),
        ("architecture =", r"mine\.toml is not valid TOML"),
        ("base = 3", r"base of .*mine\.toml is 3: give a recipe's name or file"),
        (QUANTIZE_3, "quantize is a table of settings, not 3"),
        ('architecture = "a"\ntitle = "t"\nthreads = 0', "threads is 0: it must be 1 to 256"),
        ('architecture = "a"\ntitle = "t"\nthreads = 9999', "threads is 9999: it must be 1 to"),
        ('architecture = "a"\ntitle = "t"\nvariants = 3', "variants"),
        (
            'architecture = "a"\ntitle = "t"\nfine_tune_int8 = false\nexport = []',
            "export is empty and fine_tune_int8 is false: name a format, or leave one out",
        ),
        (
            'architecture = "a"\ntitle = "t"\nexport = ["onxn"]',
            "unknown format 'onxn' in export: did you mean onnx",
        ),
        (
            'architecture = "a"\ntitle = "t"\nteachers = ["b"]\n[transfer]',
            "leave out transfer or teachers",
        ),
        (
            'architecture = "a"\ntitle = "t"\n[distil]\nviews = 3',
            r"mine\.toml has \[distil\] and nobody teaches: state teachers or self_distil",
        ),
        (
            'architecture = "a"\ntitle = "t"\nfine_tune_int8 = false\n[quantize]\nepochs = 3',
            r"mine\.toml has \[quantize\] and fine_tune_int8 = false: leave one out",
        ),
    ],
)
def test_a_broken_recipe_is_explained(tmp_path, text, message):
    with pytest.raises(EdgecifarError, match=message):
        _read(text, tmp_path)


def test_a_recipe_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes('title = "für mich"'.encode("latin-1"))
    with pytest.raises(EdgecifarError, match=r"mine\.toml is not in UTF-8: save it in that"):
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


def test_a_pupil_is_another_s_when_its_teacher_s_recipe_changes(tmp_path):
    teacher, pupil = tmp_path / "teacher.toml", tmp_path / "pupil.toml"

    def teach(epochs, more=""):
        text = f'title = "a"\narchitecture = "nano"\n{more}[train]\nepochs = {epochs}\n'
        teacher.write_text(text)
        return recipes.read(str(pupil))

    pupil.write_text('title = "b"\narchitecture = "nano"\nteachers = ["teacher.toml"]\n')
    first = teach(epochs=1)
    stored = json.loads(json.dumps(first.as_json() | {"taught_by": first.taught_by()}))
    assert first.is_that_of(stored)
    assert not teach(epochs=2).is_that_of(stored)
    assert teach(epochs=2).is_that_of(first.as_json()), "which says nothing of its teachers"
    # Only the float model teaches, and what is newer than a result is as it was.
    assert teach(epochs=1, more='export = ["int8"]\n').is_that_of(stored)
    del stored["taught_by"][0]["train"]["label_smoothing"]
    assert teach(epochs=1).is_that_of(stored)


def test_a_recipe_without_settings_trains_as_suits_its_network(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('title = "a"\narchitecture = "baseline"\n[train]\nepochs = 3\n')
    found = recipes.read(str(recipe)).train
    assert (found.optimizer, found.learning_rate, found.epochs) == ("adam", 1e-3, 3)


@pytest.mark.parametrize(
    ("architecture", "origin", "train", "head"),
    [
        ("resnet50", "", FINE_TUNING, Head()),
        ("resnet50", 'weights = "none"\n', Training(), Head()),
        ("resnet8", 'weights = "resnet8"\n', FROM_RUN, HEAD_FROM_RUN),
    ],
)
def test_a_recipe_from_trained_weights_fine_tunes_as_suits_them(
    architecture, origin, train, head, tmp_path
):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'title = "a"\narchitecture = "{architecture}"\n[transfer]\nunfreeze = 7\n{origin}'
        "[train]\nepochs = 3\n"
    )
    found = recipes.read(str(recipe))
    assert found.train == replace(train, epochs=3)
    assert (found.transfer.head, found.transfer.unfreeze) == (head, 7)


def test_a_demo_of_few_images_takes_small_batches(monkeypatch, digits, tmp_path):
    taken = []
    monkeypatch.setattr(commands, "_carry_out", lambda recipe, *_, **__: taken.append(recipe))
    assert CliRunner().invoke(main, ["demo", "--data", "digits"]).exit_code == 0
    monkeypatch.setattr(commands, "_FEW", len(digits.train))
    assert CliRunner().invoke(main, ["demo", "--data", "digits"]).exit_code == 0
    assert [recipe.train.batch_size for recipe in taken] == [32, 256]
    images, labels = digits.train.images[:30], digits.train.labels[:30] % 2
    np.savez(tmp_path / "few.npz", images=images, labels=labels)
    assert CliRunner().invoke(main, ["demo", "--data", str(tmp_path / "few.npz")]).exit_code == 0
    assert taken[-1].train.batch_size == 8  # a batch of 32 would not be filled
