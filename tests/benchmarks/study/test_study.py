"""Studies from their recipes to the result and the README's table, on digits."""

import csv
import itertools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from edgecifar.benchmarks import commands, pipeline, words
from edgecifar.benchmarks import recipe as recipes
from edgecifar.benchmarks.recipe import Recipe
from edgecifar.benchmarks.report.figures import AS_TRAINED
from edgecifar.benchmarks.report.grid import sample_rows
from edgecifar.benchmarks.report.study_load import load_study
from edgecifar.benchmarks.report.study_page import study_csv, study_markdown, study_page
from edgecifar.benchmarks.report.study_tables import ablation, features, repetitions, standings
from edgecifar.benchmarks.study import carry_out as carrying_out
from edgecifar.benchmarks.study import plan
from edgecifar.benchmarks.study import result as study_result
from edgecifar.benchmarks.study.entry import read_entry
from edgecifar.benchmarks.study.features import of_images, of_network, of_training
from edgecifar.benchmarks.study.plan import Member, Step, Study
from edgecifar.benchmarks.study.result import int8_role
from edgecifar.runtime import benchmark, results
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.transfer import Transfer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def result(small_study):
    return study_result.read(small_study.result)


@pytest.fixture
def folder(small_study, short_bench, tmp_path, monkeypatch):
    """A copy of the finished study, to be carried out again without its page."""
    monkeypatch.setattr(benchmark, "bench", short_bench)
    copy = tmp_path / "study"
    shutil.copytree(small_study.result.parents[2], copy)
    monkeypatch.setattr(
        carrying_out, "_report", lambda collection, dataset, out: out / "report.html"
    )
    doubt(copy)  # nothing of its times, whatever else this machine did meanwhile
    return copy


def doubt(folder, *doubts):
    """Give the study's times these doubts and no others."""
    path = folder / "runs" / "small" / "small-study.json"
    stored = study_result.read(path)
    benches = [b | {"valid": not doubts, "doubts": [*doubts]} for b in stored["benches"]]
    path.write_text(json.dumps(results.seal(stored | {"benches": benches})))


def again(folder, digits, out="small", **how):
    """Carry out the study in `folder` once more; return its outcome and result."""
    chosen = plan.read(str(folder / "small-study.toml"))
    place = folder / "runs" / out
    outcome = carrying_out.carry_out(chosen, digits, place, name="small-study", **how)
    return outcome, study_result.read(outcome.result)


def seeds_of(result):
    return {member["recipe"]: [r["seed"] for r in member["runs"]] for member in result["members"]}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def task_of(folder, name):
    chosen = plan.read(str(folder / "small-study.toml"))
    return plan.tasks(chosen, folder / "runs")[str(folder / f"{name}.toml")][0]


def test_a_recipe_that_fails_stops_no_other(small_study, result):
    assert seeds_of(result) == {"first": [0], "second": [0, 1], "broken": []}
    assert [*small_study.failures] == ["broken"]
    assert "batch" in small_study.failures["broken"]


def test_nor_does_one_that_fails_in_another_way(folder, digits, monkeypatch):
    def full(*_):
        raise MemoryError("no room\nfor this")

    edit(folder / "first.toml", "0.05", "0.06")
    monkeypatch.setattr(pipeline, "run_recipe", full)
    outcome, _ = again(folder, digits, out="elsewhere")
    assert "MemoryError (no room for this)" in next(iter(outcome.failures.values()))
    assert len(outcome.failures) > 1


def test_a_member_whose_answers_were_cut_off_is_told_as_an_earlier_result_has_it(
    folder, digits, capsys
):
    task = task_of(folder, "first")
    answers = task.folder / task.recipe.architecture / "predictions-test.npz"
    answers.write_bytes(answers.read_bytes()[:100])
    _, before = again(folder, digits, only=["none"])
    assert (
        capsys.readouterr().err.count("predictions-test.npz is damaged: run `edgecifar eval") == 1
    )
    (folder / "runs" / "small" / "small-study.json").unlink()
    _, after = again(folder, digits, only=["none"])
    assert seeds_of(before) == seeds_of(after) | {"first": [0]}


def test_seeds_that_no_generator_takes():
    for seed in (-1, 2**32):
        with pytest.raises(EdgecifarError, match=r"seed is .*: it must be 0 to 4294967295"):
            Member("demo", "d", seeds=(seed,))
        with pytest.raises(EdgecifarError, match="seed is "):
            replace(recipes.read("demo"), seed=seed)


def test_every_file_has_its_role_and_its_parity(small_study, result):
    first, second, _ = result["members"]
    files = {file["role"]: file for file in first["runs"][0]["files"]}
    assert files.keys() == {"float", "int8"}
    assert [file["role"] for file in second["runs"][1]["files"]] == ["float"]
    exported = {}
    for record in task_of(small_study.result.parents[2], "first").folder.glob("*/exports.json"):
        exported |= json.loads(record.read_text())["files"]
    for file in files.values():
        assert file["parity"] == exported[file["file"]]["parity"]
    assert files["float"]["parity"] != files["int8"]["parity"]
    assert files["float"]["parity"]["agreement"] > 99


def test_roles_are_known_by_the_run_not_by_the_name_of_a_file(folder):
    """Which tells, for one, what layers stay in float."""
    task = task_of(folder, "first")
    quantize = replace(task.recipe.quantize, keep_float=("classifier",))
    task = replace(task, recipe=replace(task.recipe, quantize=quantize))
    record = task.folder / "edge-8-s16" / "exports.json"
    (found,) = json.loads(record.read_text())["files"].values()
    files = {"edge-8-s16-float32.tflite": found | {"format": "int8"}}
    record.write_text(json.dumps({"files": files}))
    fine_tuned = task.folder / "edge-8-s16-qat"
    fine_tuned.rename(fine_tuned.with_name("edge-8-s16-qat-float-classifier"))
    assert [file["role"] for file in read_entry(task)["files"]] == ["int8_post", "int8"]


def test_the_int8_file_that_is_shown_is_the_better_on_validation_images():
    def run(**tops):
        return {"files": [{"role": r, "parity": {"file": {"top1": t}}} for r, t in tops.items()]}

    assert int8_role([run(int8=80.0, int8_post=80.0)]) == "int8"
    assert int8_role([run(int8=80.0, int8_post=79.0), run(int8=80.0, int8_post=82.0)]) != "int8"
    assert int8_role([run(float=90.0, int8_post=70.0)]) == "int8_post"
    assert int8_role([]) == "int8"


def test_one_bench_times_every_member(result):
    (bench,) = result["benches"]
    files = [file["sha256"] for m in result["members"][:2] for file in m["runs"][0]["files"]]
    assert [row["sha256"] for row in bench["models"]] == files
    assert all(row["latency_us"]["median"] > 0 for row in bench["models"])


def test_both_kinds_of_int8_are_timed(folder, digits):
    """Since with more seeds the other may be the one that is shown."""
    task = task_of(folder, "first")
    record = task.folder / "edge-8-s16" / "exports.json"
    exported, bench = json.loads(record.read_text()), json.loads(task.bench.read_text())
    worse = dict(exported["files"]["edge-8-s16-float32.tflite"])
    worse |= {"format": "int8", "parity": worse["parity"] | {"file": {"top1": 0.0}}}
    exported["files"]["edge-8-s16-int8.tflite"] = worse
    record.write_text(json.dumps(exported))
    row = next(row for row in bench["models"] if "qat-int8" in row["file"])
    bench["models"].append(row | {"file": "edge-8-s16-int8.tflite"})
    task.bench.write_text(json.dumps(results.seal(bench)))
    exports = task.folder / "edge-8-s16" / "exports"
    (exports / "edge-8-s16-int8.tflite").write_bytes(b"int8")
    study = plan.read(str(folder / "small-study.toml"))
    todo = plan.tasks(study, folder / "runs")
    collection = study_result.Collection(study, todo, digits, folder / "result.json")
    assert int8_role(collection._entries(study.members[0].recipe)) == "int8"
    timed = [path.name for path, _ in collection._files()]
    assert timed == [
        "edge-8-s16-float32.tflite",
        "edge-8-s16-qat-int8.tflite",
        "edge-8-s16-int8.tflite",
        "edge-8-s16-float32.tflite",
    ]


def test_what_is_finished_is_not_done_again(folder, digits, monkeypatch):
    carried_out = []
    monkeypatch.setattr(pipeline, "run_recipe", lambda r, *_: carried_out.append(r.title))
    (folder / "first.toml").write_text(
        (folder / "first.toml").read_text().replace('"first"', '"another title"')
    )
    before = study_result.read(folder / "runs" / "small" / "small-study.json")
    _, after = again(folder, digits)
    assert carried_out == ["broken"]
    assert seeds_of(after) == seeds_of(before)
    assert after["benches"] == before["benches"]


def test_figures_of_another_recipe_don_t_stand_under_this_one(folder, digits):
    edit(folder / "first.toml", "[quantize]", "[quantize]\nlearning_rate = 0.5")
    how = {"only": ["first", "second"], "source": " --data photos.zip"}
    outcome, changed = again(folder, digits, **how)
    assert seeds_of(changed) == {"first": [], "second": [0, 1], "broken": []}
    (told,) = outcome.failures.values()
    assert "learning_rate" in told
    line = f"edgecifar run {folder}/first.toml --out {folder}/runs/first --force --data photos.zip"
    assert f"`{line}`" in told
    assert "\n" not in told


def test_what_else_a_recipe_makes_is_no_matter(folder, digits, result):
    """A study shows no variants: what was measured stays when they change."""
    with (folder / "first.toml").open("a") as file:
        file.write("\n[[variants]]\nprune = { share = 0.5 }\n")
    assert task_of(folder, "first").is_finished(digits)
    earlier = folder / "earlier.json"
    shutil.move(folder / "runs" / "small" / "small-study.json", earlier)
    shutil.rmtree(folder / "runs")
    _, filled = again(folder, digits, only=["broken"], earlier=earlier)
    assert filled["members"][0]["runs"] == result["members"][0]["runs"]


def test_doubtful_times_are_taken_again(folder, digits):
    doubt(folder, "the machine was dropped")
    _, after = again(folder, digits)
    (bench,) = after["benches"]
    assert "the machine was dropped" not in bench["doubts"]


def test_a_recipe_that_does_not_suit_the_images_stops_no_other(small_study, digits, tmp_path):
    recipe = recipes.read("efficientnetv2b0")
    odd = replace(recipe, transfer=replace(recipe.transfer, backbone_size=97))
    task = plan.Task("efficientnetv2b0", odd, tmp_path)
    with pytest.raises(EdgecifarError):
        study_result.features(odd, digits)
    assert study_result._features(task, digits) == {}


def test_runs_that_others_put_there_are_no_stages(folder):
    task = task_of(folder, "first")
    before = read_entry(task)["stages"]
    shutil.copytree(task.folder / "edge-8-s16-qat", task.folder / "edge-8-s16-qat-mine")
    assert read_entry(task)["stages"] == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda bench: bench["models"][0].update(error="no memory"),
        lambda bench: bench["runs"].update({"edge-8-s16": "0" * 64}),
        lambda bench: bench["recipe"].update(self_distil=True),
        lambda bench: bench["data"].update(dataset_fingerprint="0" * 64),
        lambda bench: bench.pop("runs"),
    ],
    ids=["error", "model", "recipe", "data", "older"],
)
def test_a_bench_of_something_else_is_no_end(folder, digits, damage):
    task = task_of(folder, "first")
    assert task.is_finished(digits)
    bench = json.loads(task.bench.read_text())
    damage(bench)
    task.bench.write_text(json.dumps(results.seal(bench)))
    assert not task.is_finished(digits)


def test_an_earlier_result_fills_in_what_is_not_here(folder, digits, result):
    earlier = folder / "earlier.json"
    shutil.move(folder / "runs" / "small" / "small-study.json", earlier)
    shutil.rmtree(folder / "runs")
    edit(folder / "second.toml", "0.001", "0.002")
    _, filled = again(folder, digits, only=["broken"], earlier=earlier)
    assert seeds_of(filled) == {"first": [0], "second": [], "broken": []}
    assert filled["members"][0]["runs"] == result["members"][0]["runs"]
    told = [member["features"]["optimizer"] for member in filled["members"]]
    assert "0.05" in told[0]  # what its figures were made with
    assert "0.002" in told[1]
    timed = [[bench["models"] for bench in each["benches"]] for each in (filled, result)]
    assert timed[0] == timed[1]


def test_a_result_is_written_anew_without_carrying_anything_out(folder, digits, monkeypatch):
    monkeypatch.setattr(carrying_out, "_attempt", None)
    earlier = folder / "runs" / "small" / "small-study.json"
    edit(folder / "small-study.toml", "A note for its readers.", "Another note.")
    _, anew = again(folder, digits, out="elsewhere", only=["none"], earlier=earlier)
    before = study_result.read(earlier)
    assert anew["note"] == "Another note."
    assert [m["runs"] for m in anew["members"]] == [m["runs"] for m in before["members"]]
    assert anew["benches"] == before["benches"]


def test_nor_timing_anything(folder, digits, monkeypatch):
    """Though an older bench had other files."""
    path = folder / "runs" / "small" / "small-study.json"
    before = study_result.read(path)
    before["benches"][0]["models"].pop()
    before["benches"] = [results.seal(bench) for bench in before["benches"]]
    path.write_bytes(results.as_bytes(results.seal(before)))
    monkeypatch.setattr(benchmark, "bench", None)
    _, after = again(folder, digits, only=["none"])
    assert after["benches"] == before["benches"]


def test_the_published_result_says_what_its_study_does():
    """If not: `edgecifar run seed-study --only none` with `--earlier` writes it anew.

    That leaves out what was made by other recipes than today's: see a diff of their settings.
    """
    study = plan.read("seed-study")
    stored = study_result.read(ROOT / "benchmarks" / "results" / "seed-study.json")
    assert (stored["title"], stored["note"]) == (study.title, study.note)
    told = ("label", "reported", "asked", "tried", "note")
    for member, kept in zip(study.members, stored["members"], strict=True):
        assert {key: kept[key] for key in told} == {key: getattr(member, key) for key in told}
    for step, kept in zip(study.ablation, stored["ablation"], strict=True):
        assert {key: kept[key] for key in ("recipe", "change", "int8")} == asdict(step)
    runs = study_result.entries(stored)
    assert runs
    for (name, seed), run in runs.items():
        recipe = replace(recipes.read(name), seed=seed)
        assert recipe.is_that_of(run["recipe"], variants=False), (name, seed)


def test_a_result_of_other_images_is_refused(folder, digits):
    path = folder / "runs" / "small" / "small-study.json"
    stored = json.loads(path.read_text())
    stored["data"]["fingerprint"] = "0" * 64
    other = results.as_bytes(results.seal(stored))
    path.write_bytes(other)
    with pytest.raises(EdgecifarError, match=r"is of other images .*: give another --out"):
        again(folder, digits)
    assert path.read_bytes() == other
    with pytest.raises(EdgecifarError, match=r"other images .*: leave out --earlier"):
        again(folder, digits, out="elsewhere", earlier=path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-9], "is not a study's result: `edgecifar run"),
        (lambda text: text.replace('"study"', '"bench"', 1), "is not a study's result"),
        (lambda text: text.replace('"seeds": 2', '"seeds": 3', 1), "isn't what was measured"),
        (lambda text: text.replace('"schema": 1', '"schema": 9', 1), "has schema 9"),
    ],
)
def test_a_result_that_was_damaged_is_refused(small_study, tmp_path, damage, message):
    whole, path = small_study.result.read_text(), tmp_path / "result.json"
    path.write_text(damage(whole))
    assert path.read_text() != whole
    with pytest.raises(EdgecifarError, match=message):
        study_result.read(path)


def test_the_ablation_is_of_seed_0(folder):
    study = Study("s", (Member("demo", "d", seeds=(1, 2)),), (Step("demo", "c"),))
    (found,) = plan.tasks(study, folder).values()
    assert [task.recipe.seed for task in found] == [0, 1, 2]
    assert [task.folder.name for task in found] == ["demo", "demo-seed1", "demo-seed2"]


def test_a_recipe_with_a_seed_of_its_own_lies_where_its_study_seeks_it(tmp_path, monkeypatch):
    mine, places = str(tmp_path / "mine.toml"), []
    Path(mine).write_text('title = "m"\narchitecture = "edge-8-s16"\nseed = 3\n')
    monkeypatch.setattr(
        commands, "_carry_out", lambda recipe, _, out, **__: places.append((recipe.seed, out))
    )
    for seed in ((), ("--seed", "0")):
        told = CliRunner().invoke(main, ["run", mine, "--data", "digits", *seed])
        assert told.exit_code == 0, told.output
    (found,) = plan.tasks(Study("s", (Member(mine, "m", seeds=(3, 0)),)), Path("runs")).values()
    assert [(task.recipe.seed, task.folder) for task in found] == places
    assert [folder.name for _, folder in places] == ["mine-seed3", "mine"]
    assert [" --seed 0 " in task.anew for task in found] == [False, True]


def test_examples_of_mistakes_need_no_run_folder(small_study, digits):
    study = load_study(small_study.result)
    bare = study_page(study)
    assert "data:image/png" not in bare
    assert bare.count("Without examples: the images were not given (--data).") == 2
    page = study_page(study, images=digits.test.images)
    assert page.count("data:image/png") >= 6
    assert "Without examples" not in page
    with pytest.raises(EdgecifarError, match=r"10 images for \d+ predictions"):
        study_page(study, images=digits.test.images[:10])


def test_a_page_says_where_older_results_have_no_examples(small_study, digits):
    study = load_study(small_study.result)
    first, *others = study.members
    (one,) = first.repetitions
    older = replace(one, run=replace(one.run, mistakes={}))
    some = replace(study, members=(replace(first, repetitions=(older,)), *others))
    page = study_page(some, images=digits.test.images)
    assert page.count("Without examples: which images these are was not kept of this run.") == 1


def test_targets_are_met_or_missed(small_study):
    study = load_study(small_study.result)
    first, _, broken = study.members
    short = 99.9 - first.mean("float")["top1"]
    assert [s.outcome for s in study.members] == [f"missed by {short:.2f}", "met", ""]
    page = study_page(study)
    missed = page[page.index("Targets that were missed") :].partition("</ul>")[0]
    assert "First, ours" in missed
    assert "One epoch." in missed
    assert "Second" not in missed
    assert f"<b>{words.percent(99.9)}</b>" in page
    older = [replace(s, raw={k: v for k, v in s.raw.items() if k != "asked"}) for s in (first,)]
    assert "Targets that were missed" not in study_page(replace(study, members=tuple(older)))
    assert broken.asked is None


def test_of_fewer_seeds_than_planned_that_is_said_so_far(small_study):
    """Neither a mean nor its target is settled by the first of three."""
    study = load_study(small_study.result)
    members = tuple(replace(s, raw=s.raw | {"seeds": [0, 1, 2]}) for s in study.members)
    first, second, _ = members
    short = 99.9 - first.mean("float")["top1"]
    assert [s.outcome for s in members] == [f"missed so far by {short:.2f}", "met so far", ""]
    assert [s.seeds("float") for s in (first, second)] == ["1 of 3 seeds", "2 of 3 seeds"]
    table = standings(replace(study, members=members))
    cells = dict(zip(table.columns, table.rows[1], strict=True))
    assert cells["Asked"].detail == "met so far"
    assert cells["Ours, float32"].detail.endswith("\n2 of 3 seeds")
    assert study.members[1].seeds("float") == "2 seeds"


def test_all_that_is_said_of_int8_is_of_one_file(small_study):
    """Which is the better on validation images, whatever it was made by."""
    study = load_study(small_study.result)
    first, *_ = study.members
    (one,) = first.repetitions
    tuned = one.files["int8"]
    plain = replace(tuned, raw=tuned.raw | {"role": "int8_post", "payload_bytes": 4242})
    parity = tuned.raw["parity"]
    better = parity | {"file": parity["file"] | {"top1": parity["file"]["top1"] + 1}}
    plain = replace(plain, raw=plain.raw | {"parity": better, "agreement": 12.34})
    entry = one.raw | {"files": [*one.raw["files"], plain.raw]}
    both = replace(one, raw=entry, files=one.files | {"int8_post": plain})
    mean = first.raw["mean"] | {"int8_post": first.raw["mean"]["int8"] | {"top1": 55.55}}
    member = replace(first, raw=first.raw | {"mean": mean}, repetitions=(both,))
    table = standings(replace(study, members=(member,)))
    assert [name for name in table.columns if "int8" in name] == ["Ours, int8"]
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["Ours, int8"].text == words.percent(55.55)
    tuned_top1 = words.percent(first.raw["mean"]["int8"]["top1"])
    assert cells["Ours, int8"].detail.endswith(f"post-training\n(other: {tuned_top1})")
    assert cells["Same answers"].text == words.percent(12.34)
    assert cells["Size"].text == words.size(4242)


def test_words_stand_at_the_left_of_the_features(small_study):
    study = load_study(small_study.result)
    table = features(study)
    assert set(table.texts) == set(table.columns)
    assert '<td class="text">' in study_page(study)
    assert study.raw["created"][:10] in table.caption


def test_the_tables_of_the_page(small_study):
    study = load_study(small_study.result)
    text = study_markdown(study)
    assert "| 2. and SGD " in text
    assert text.count("p\N{NO-BREAK SPACE}") == 2  # steps are compared with the row before
    tuning = [row for row in text.splitlines() if "1 epoch" in row and "seed 0" in row]
    assert len(tuning) == 1, "only First was fine-tuned for int8"
    assert len(study_csv(study).splitlines()) == 1 + 3  # files of the first seeds


def test_a_step_after_one_that_was_not_run_says_what_it_is_compared_with(small_study):
    study = load_study(small_study.result)
    first, second, *others = study.steps
    rows = ablation(replace(study, steps=(first, replace(second, repetitions=()), *others))).rows
    assert rows[1][2].detail.endswith("against row 1")
    assert not any("against row" in row[2].detail for row in ablation(study).rows)


def test_the_command_writes_a_study_in_all_forms(small_study, result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = str(small_study.result)
    options = ["--markdown", "r.md", "--csv", "r.csv", "--plots", "figures", "--title", "Mine"]
    done = CliRunner().invoke(main, ["report", study, *options])
    assert done.exit_code == 0, done.output
    written = ("report.html", "r.md", "r.csv", "figures")
    assert done.output.splitlines() == [f"wrote {name}" for name in written]
    assert "<h1>Mine (on digits)</h1>" in Path("report.html").read_text()
    assert Path("r.md").read_text() == study_markdown(load_study(small_study.result))
    timed = [row["name"] for bench in result["benches"] for row in bench["models"]]
    rows = csv.DictReader(Path("r.csv").read_text().splitlines())
    assert [row["name"] for row in rows] == timed
    assert Path("figures/accuracy-of-each-model.svg").read_text().startswith("<svg xmlns=")


def test_a_study_is_reported_alone(small_study, tmp_path):
    told = CliRunner().invoke(
        main, ["report", *[str(small_study.result)] * 2, "--out", str(tmp_path / "r.html")]
    )
    assert told.exit_code == 1
    assert "a study has a page of its own: give one result, and run folders" in told.output


def test_how_far_confidence_of_a_file_is_off_is_kept(result, small_study):
    (file, *_), *_ = [run["files"] for run in result["members"][0]["runs"]]
    assert 0 <= file["accuracy"]["ece"] <= 1
    assert "Confidence off by" in study_page(load_study(small_study.result))


def test_calibration_of_a_network_is_told_from_that_of_its_file(small_study):
    study = load_study(small_study.result)
    first, second, _ = study.members
    (one,) = first.repetitions
    one.run.metrics["test"]["ece"] = 0.25
    file = one.files["float"]
    files = [replace(file, raw=file.raw | {"accuracy": file.accuracy | {"ece": 0.125}})]
    files += [replace(file, raw={**file.raw, "accuracy": {"top1": 50.0}})]  # of an older bench
    for file, told in zip(files, (f"file {words.percent(12.5)}", ""), strict=True):
        measured = replace(one, files=one.files | {"float": file})
        table = repetitions(replace(study, members=(replace(first, repetitions=(measured,)),)))
        cell = dict(zip(table.columns, table.rows[0], strict=True))["ECE as trained"]
        assert (cell.text, cell.detail) == (words.percent(25.0), told)
        assert "divides the logits" in table.caption
    shown = [system.first for system in (first, second)]
    assert all(one.run.calibration for one in shown)
    assert study_page(study).count(AS_TRAINED.replace("'", "&#39;")) == 1 + len(shown)


def test_sizes_are_those_of_models_without_metadata(small_study, result):
    study = load_study(small_study.result)
    (file,) = [f for f in result["members"][0]["runs"][0]["files"] if f["role"] == "int8"]
    assert file["payload_bytes"] < file["file_bytes"]
    assert f"| {words.size(file['payload_bytes'])} (" in study_markdown(study)
    page = study_page(study)
    assert f"{file['name']}: {file['accuracy']['top1']:.2f} % at" in page
    assert f" at {file['payload_bytes'] / 1e3:.3g} kB" in page
    whole = words.size(file["file_bytes"])
    assert page.count(whole) == page.count(f"file {whole}") == 1


def test_latencies_of_several_benches_are_told_apart(small_study):
    study = load_study(small_study.result)
    assert "s [1]" not in study_page(study)
    first, *others = study.members
    file = first.repetitions[0].files["float"]
    moved = replace(
        first.repetitions[0],
        files=first.repetitions[0].files | {"float": replace(file, bench=1)},
    )
    several = replace(
        study,
        members=(replace(first, repetitions=(moved,)), *others),
        benches=(*study.benches, *study.benches),
    )
    page = study_page(several)
    assert "s [1]" in page
    assert "s [2]" in page
    assert "Of bench 1 alone" in page
    assert "Not in it: First, ours as float32 (bench 2)." in page


def test_parity_keeps_systems_of_one_architecture_apart(small_study):
    study = load_study(small_study.result)
    first, *_ = study.members
    twin = replace(first, raw=first.raw | {"label": "Its twin"})
    page = study_page(replace(study, members=(first, twin))).replace("<wbr>", "")
    assert "Its twin: edge-8-s16-float32" in page
    assert "First, ours: edge-8-s16-float32" in page


def test_steps_that_were_not_run_are_named_beneath_the_ablation(small_study):
    study = load_study(small_study.result)
    first, second, *others = study.steps
    some = replace(study, steps=(first, replace(second, repetitions=()), *others))
    assert "<li>2. and SGD</li>" in study_page(some)
    assert "<li>1. the second</li>" not in study_page(some)
    none = replace(study, steps=tuple(replace(step, repetitions=()) for step in study.steps))
    assert study_page(none).count("<li>1. the second</li>") == 1
    assert "Against the row before" not in study_markdown(none)


def test_rows_of_training_images(digits):
    rows = sample_rows(digits, per_class=3)
    assert [row.name for row in rows] == list(digits.classes)
    assert {row.count for row in rows} == {3}
    assert rows == sample_rows(digits, per_class=3)
    assert all(row.image.startswith("data:image/") for row in rows)


def test_features_say_where_the_weights_come_from():
    recipe = recipes.read("resnet50")
    told = {
        weights: of_training(replace(recipe, transfer=Transfer(weights=weights)))["start"]
        for weights in ("imagenet", "none", "/somewhere/net.h5")
    }
    assert [*told.values()] == ["ImageNet weights", "random weights", "weights of net.h5"]
    assert of_training(replace(recipe, transfer=None))["start"] == "random weights"


@pytest.mark.parametrize(
    ("architecture", "weights", "size", "told"),
    [
        ("efficientnet_lite0", "imagenet", (32, 32), "32x32, enlarged to 96x96"),
        ("efficientnet_lite0", "imagenet", (32, 48), "32x48, enlarged to 96x144"),
        ("efficientnet_lite0", "imagenet", (224, 224), "224x224"),
        ("nano", "nano", (32, 32), "32x32"),
    ],
)
def test_features_say_to_what_a_network_enlarges_images(architecture, weights, size, told):
    recipe = Recipe(architecture, "t", transfer=Transfer(weights=weights))
    assert of_images(recipe, SimpleNamespace(image_size=size)) == {"input": told}


def test_features_are_of_the_network_that_is_deployed(small_digits):
    found = study_result.features(Recipe("nano-rep", "t"), small_digits)
    plain = study_result.features(Recipe("nano", "t"), small_digits)
    assert (found["macs"], found["convolutions"]) == (plain["macs"], plain["convolutions"])


def test_many_rates_of_dropout_are_told_as_a_range():
    from tf_keras import Sequential, layers

    def told(*rates):
        return of_network(Sequential([layers.Dropout(rate) for rate in rates]))["dropout"]

    assert told() == "none"
    assert told(0.2, 0.5, 0.2) == "0.2, 0.5"
    assert told(0.019, 0.05, 0.1, 0.15, 0.2, 0.5) == "0.019 to 0.5, 6 rates"


def test_the_study_that_ships_changes_one_thing_a_row():
    study = plan.read("seed-study")
    steps = [recipes.read(step.recipe) for step in study.ablation]
    # Seen by the int8 model alone, which has a row of its own.
    for_int8 = {"fine_tune_int8", "quantize.epochs", "self_distil", "export"}
    for_int8 |= {"distil.temperature", "distil.views"}
    wanted = [  # a change may be made of more than one key
        {"train.augment.flip", "train.augment.rotation", "train.augment.shift"},
        {"architecture"},
        {"train.optimizer", "train.learning_rate"},
        {"train.schedule", "train.warmup"},
        {"train.weight_decay"},
        {"train.batch_size", "train.learning_rate"},
        {"train.augment.crop", "train.augment.rotation", "train.augment.shift"},
        {"train.label_smoothing"},
        {"train.augment.cutout"},
        {"train.ema"},
        {"architecture", *for_int8},
        set(),
    ]
    changes = [leaves(before) ^ leaves(after) for before, after in itertools.pairwise(steps)]
    assert [{key for key, _ in change} - {"title"} for change in changes] == wanted
    *floats, last = study.ablation
    assert last.recipe == floats[-1].recipe
    assert [step.int8 for step in study.ablation] == [False] * len(floats) + [True]
    assert not any(step.teachers for step in steps)  # or [distil] would teach float models too
    assert [member.recipe for member in study.members if member.stands_in] == ["efficientnet_lite0"]


def leaves(recipe):
    """The settings of a recipe as pairs of a dotted key and its value."""

    def walk(value, key):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, f"{key}.{name}".lstrip("."))
        else:
            yield key, repr(value)

    return set(walk(recipe.as_json(), ""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone-study.toml"], "gone-study.toml is missing: give a study's file"),
        (["sed-study"], "unknown study 'sed-study': did you mean seed-study?"),
        (["seed-study", "--only", "advnced"], "did you mean advanced?"),
    ],
)
def test_what_can_t_be_read_is_one_line(arguments, message, tmp_path):
    command = ["run", *arguments, "--data", "digits", "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == 1
    assert message in told.stderr
    assert len(told.stderr.splitlines()) == 1
