import base64
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime import Classifier, environment, modelfile, results
from edgecifar.runtime.benchmark import Settings, bench
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import unpack_bits, unpack_classes
from edgecifar.runtime.timing import TimingPlan

PLAN = TimingPlan(rounds=4, slice_ms=2, warm_up_ms=5)
QUICK = Settings(plan=PLAN)
CLASSES = ("ant", "bee", "cow", "dog")


def mix_labels_up(path):
    described = modelfile.read(path).metadata
    rest = {key: value for key, value in described.items() if key != "labels"}
    modelfile.append(path, rest, CLASSES[::-1])


def test_a_whole_result(described, bare, labelled_npz, images):
    files = [described / "float32.tflite", described / "int8.tflite", bare / "float32.onnx"]
    result = json.loads(
        json.dumps(bench(files, data=labelled_npz, settings=QUICK), allow_nan=False)
    )
    assert (result["schema"], result["kind"]) == (1, "bench")
    assert result["data"]["n"] == 64
    assert result["data"]["name"] == "insects"
    assert result["settings"] == {"threads": 1, **asdict(PLAN)}
    names = [row["name"] for row in result["models"]]
    assert names == ["tiny-float32", "tiny-int8", "float32"]
    for row, path in zip(result["models"], files, strict=True):
        assert "error" not in row
        assert (
            0 < row["latency_us"]["median"] <= row["latency_us"]["p90"] <= row["latency_us"]["p99"]
        )
        assert row["file_bytes"] == path.stat().st_size
        assert row["peak_memory_bytes"] > row["model_memory_bytes"] >= 0
        assert row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]
        assert len(row["rounds_us"]) == PLAN.rounds
        assert min(row["rounds_us"]) <= row["latency_us"]["median"] <= max(row["rounds_us"])
        assert row["accuracy"]["n"] == 64
    assert result["models"][0]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_accuracy_is_the_classifiers(described, labelled_npz, images):
    path = described / "int8.tflite"
    accuracy = bench([path], data=labelled_npz, settings=QUICK)["models"][0]["accuracy"]
    correct = np.unpackbits(np.frombuffer(base64.b64decode(accuracy["correct"]), np.uint8))
    # Reading shuffles the images, so the bits are compared by their number.
    expected = (Classifier(path).predict(images).indices == np.arange(64) % 4).sum()
    assert correct[:64].sum() == expected
    assert accuracy["top1"] == pytest.approx(100 * expected / 64)
    assert accuracy["low"] < accuracy["top1"] < accuracy["high"]


def test_classes_are_matched_by_name(described, images, tmp_path):
    found = Classifier(described / "int8.tflite").predict(images).indices
    order = [2, 0, 3, 1]  # the data's classes in terms of the model's
    labels = np.array([order.index(index) for index in found])
    names = [CLASSES[index] for index in order]
    np.savez(tmp_path / "d.npz", images=images, labels=labels, classes=names, split="test")
    row = bench([described / "int8.tflite"], data=tmp_path / "d.npz", settings=QUICK)["models"][0]
    assert row["accuracy"]["top1"] == 100.0


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("ant", "bee", "cow", "yak"), "'yak'"),
        (("ant", "bee", "cow"), "4 classes .* have 3"),
        (("0", "1", "2", "3"), "store the names in the .npz file"),
    ],
)
def test_other_classes_fail_the_row(described, images, tmp_path, classes, message):
    labels = np.arange(64) % len(classes)
    np.savez(tmp_path / "d.npz", images=images, labels=labels, classes=classes, split="test")
    row = bench([described / "int8.tflite"], data=tmp_path / "d.npz", settings=QUICK)["models"][0]
    assert row["accuracy"] is None
    assert row["latency_us"]["median"] > 0
    assert re.search(message, row["error"])


def test_accuracies_are_shared_by_what_answers_alike(described, labelled_npz, tmp_path):
    """Of two files with the same weights the labels decide, or a mix-up would go unseen."""
    same, mixed = tmp_path / "same.tflite", tmp_path / "mixed.tflite"
    for path in (same, mixed):
        shutil.copy(described / "int8.tflite", path)
    mix_labels_up(mixed)
    files, told = [described / "int8.tflite", same, mixed], []
    rows = bench(files, data=labelled_npz, settings=QUICK, on_progress=told.append)["models"]
    first, second, third = (row["accuracy"] for row in rows)
    assert first == second
    assert rows[2]["sha256"] == rows[0]["sha256"]
    alone = bench([mixed], data=labelled_npz, settings=QUICK)["models"][0]["accuracy"]
    assert third == alone
    assert third["predicted"] != first["predicted"]
    assert not any(text.startswith("accuracy of same") for text in told)


def test_a_file_that_was_relabelled_begins_anew(described, labelled_npz, tmp_path):
    path, journal, told = tmp_path / "m.tflite", tmp_path / "journal", []
    shutil.copy(described / "int8.tflite", path)

    def stop(text):
        if text.startswith("round 3"):
            raise KeyboardInterrupt

    how = {"data": labelled_npz, "settings": QUICK, "journal": journal}
    with pytest.raises(KeyboardInterrupt):
        bench([path], **how, on_progress=stop)
    mix_labels_up(path)
    bench([path], **how, on_progress=told.append)
    assert not any(text.startswith("going on") for text in told)


def test_a_failing_file_does_not_stop_the_others(described, tmp_path):
    (tmp_path / "bad.tflite").write_text("<html>")
    result = bench([tmp_path / "bad.tflite", described / "int8.tflite"], settings=QUICK)
    bad, good = result["models"]
    assert "HTML" in bad["error"]
    assert "latency_us" not in bad
    assert good["latency_us"]["n"] > 0
    assert good["ratio"] is None
    assert result["data"] is None


def test_all_files_failing(tmp_path):
    result = bench([tmp_path / "none.tflite"], settings=QUICK, data=tmp_path / "none")
    assert "no such model file" in result["models"][0]["error"]


def test_impossible_requests(described, tmp_path):
    with pytest.raises(EdgecifarError, match="0 threads"):
        Settings(threads=(0,))
    with pytest.raises(EdgecifarError, match="none"):
        bench([described / "int8.tflite"], data=tmp_path / "none", settings=QUICK)


@pytest.mark.slow
def test_the_peers_published_accuracies(peers):
    data = os.environ.get("EDGECIFAR_DATA")
    if not data:
        pytest.skip("EDGECIFAR_DATA isn't set")
    expected = {
        "pretrainedResnet.tflite": 87.19,
        "pretrainedResnet_quant.tflite": 86.97,
        "pretrainedResnet_large_float.tflite": 91.28,
        "pretrainedResnet_large_int8.tflite": 91.31,
    }
    result = bench([peers / name for name in expected], data=Path(data), settings=QUICK)
    found = {Path(row["file"]).name: row["accuracy"]["top1"] for row in result["models"]}
    assert found == {name: pytest.approx(top1) for name, top1 in expected.items()}


def test_answers_are_kept_image_by_image(described, labelled_npz):
    result = bench([described / "int8.tflite"], data=labelled_npz, settings=QUICK)
    labels = unpack_classes(result["data"]["labels"], 4)
    accuracy = result["models"][0]["accuracy"]
    predicted = unpack_classes(accuracy["predicted"], 4)
    assert np.array_equal(predicted == labels, unpack_bits(accuracy["correct"], 64))
    assert result["data"]["classes"] == list(CLASSES)


def test_answers_are_in_the_datas_classes(described, images, tmp_path):
    indices = Classifier(described / "int8.tflite").predict(images).indices
    order = [2, 0, 3, 1]  # the data's classes in terms of the model's
    names = [CLASSES[index] for index in order]
    labels = np.array([order.index(index) for index in indices])
    np.savez(tmp_path / "d.npz", images=images, labels=labels, classes=names, split="test")
    result = bench([described / "int8.tflite"], data=tmp_path / "d.npz", settings=QUICK)
    predicted = unpack_classes(result["models"][0]["accuracy"]["predicted"], 4)
    assert np.array_equal(predicted, unpack_classes(result["data"]["labels"], 4))


def test_sweeps_make_a_row_for_each(described):
    settings = Settings(threads=(1, 2), batches=(1, 3), plan=PLAN, energy=False)
    result = bench([described / "int8.tflite", described / "float32.onnx"], settings=settings)
    assert [(row["threads"], row["batch"]) for row in result["models"]] == [
        (1, 1), (1, 3), (2, 1), (2, 3),
    ] * 2  # fmt: skip
    for row in result["models"]:
        assert row["input"]["shape"] == [row["batch"], 16, 16, 3]
        assert row["latency_us"]["median"] > 0
    assert result["settings"]["threads"] == [1, 2]


def test_a_fixed_batch_says_so(bare, tmp_path):
    onnx, tf = (pytest.importorskip(name) for name in ("onnx", "tensorflow"))
    model = onnx.load(bare / "float32.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "fixed.onnx")

    @tf.function(input_signature=[tf.TensorSpec([1, 16, 16, 3])])
    def one_answer(pixels):
        return tf.nn.softmax(tf.reduce_mean(pixels, axis=[0, 1, 2])[None])

    concrete = [one_answer.get_concrete_function()]
    converted = tf.lite.TFLiteConverter.from_concrete_functions(concrete).convert()
    (tmp_path / "fixed.tflite").write_bytes(converted)
    settings = Settings(batches=(1, 3), plan=PLAN, energy=False)
    files = [tmp_path / "fixed.tflite", tmp_path / "fixed.onnx"]
    alone, three, *onnx_rows = bench(files, settings=settings)["models"]
    for fitting, other in ((alone, three), onnx_rows):
        assert fitting["input"]["shape"][0] == 1
        assert fitting["latency_us"]["median"] > 0
        assert other["error"].endswith(
            "its batch is fixed, so 3 images don't fit: measure it without --batch, or export it "
            "with a free first dimension"
        )


def test_backends_side_by_side(described):
    settings = Settings(backends=("litert", "tensorflow", "onnxruntime"), plan=PLAN)
    result = bench([described / "int8.tflite", described / "float32.onnx"], settings=settings)
    names = [row["backend"].split()[0] for row in result["models"]]
    assert names == ["litert", "tensorflow", "onnxruntime"]


def test_operators_are_timed_where_that_is_possible(described):
    settings = Settings(profile=True, plan=PLAN, energy=False)
    tflite, onnx = bench(
        [described / "int8.tflite", described / "float32.onnx"], settings=settings
    )["models"]
    assert tflite["operators"] is None
    assert "litert" in tflite["operators_note"]
    assert any("Conv" in operator["operator"] for operator in onnx["operators"])
    assert all(operator["us"] >= 0 for operator in onnx["operators"])


def test_without_times(described, labelled_npz):
    settings = Settings(timed=False, plan=PLAN)
    result = bench([described / "int8.tflite"], data=labelled_npz, settings=settings)
    row = result["models"][0]
    assert row["latency_us"] is row["load_ms"] is row["first_us"] is None
    assert row["accuracy"]["n"] == 64
    assert result["timed"] is False


def test_fewer_images(described, labelled_npz):
    whole = bench([described / "int8.tflite"], data=labelled_npz, settings=QUICK)
    part = bench([described / "int8.tflite"], data=labelled_npz,
                 settings=Settings(images=10, plan=PLAN))  # fmt: skip
    answers = [
        unpack_classes(result["models"][0]["accuracy"]["predicted"], 4) for result in (whole, part)
    ]
    assert np.array_equal(answers[0][:10], answers[1])


def test_settings_that_change_what_is_measured_are_told():
    """By them a finished bench is known again, on another device too."""
    told = Settings(backends=("litert",), profile=True, batches=(8,)).as_json()
    assert (told["backends"], told["profile"], told["batch"]) == (["litert"], True, 8)
    assert not {"backends", "profile", "batch"} & set(Settings().as_json())


def test_an_interrupted_bench_goes_on(described, labelled_npz, tmp_path):
    journal, told = tmp_path / "journal", []
    files = [described / "float32.tflite", described / "int8.tflite"]

    def stop(text):
        if text.startswith("round 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(files, data=labelled_npz, settings=QUICK, journal=journal, on_progress=stop)
    result = bench(
        files, data=labelled_npz, settings=QUICK, journal=journal, on_progress=told.append
    )
    assert [text for text in told if text.startswith("round")] == ["round 4 of 4"]
    assert "going on after 3 finished rounds" in told
    assert result["sessions"] == 2
    assert results.seal(result) == result
    other, told[:] = Settings(plan=TimingPlan(rounds=5, slice_ms=2, warm_up_ms=5)), []
    bench(files, data=labelled_npz, settings=other, journal=journal, on_progress=told.append)
    assert "round 1 of 5" in told, "rounds of another plan were taken for this one's"


@pytest.mark.parametrize("what", ["python", "numpy", "interpreter", "cpu"])
def test_rounds_of_another_interpreter_or_machine_are_not_gone_on_with(
    described, tmp_path, monkeypatch, what
):
    def stop(text):
        if text.startswith("round 3"):
            raise KeyboardInterrupt

    journal, told, files = tmp_path / "journal", [], [described / "int8.tflite"]
    with pytest.raises(KeyboardInterrupt):
        bench(files, settings=QUICK, journal=journal, on_progress=stop)
    if what == "interpreter":
        monkeypatch.setattr("edgecifar.runtime.backends.Backend.version", "9.9")
    elif what == "cpu":
        monkeypatch.setattr(environment, "cpu_model", lambda *_: "Cortex-A72")
    else:
        versions = environment.versions() | {what: "9.9"}
        monkeypatch.setattr(environment, "versions", lambda: versions)
    result = bench(files, settings=QUICK, journal=journal, on_progress=told.append)
    assert "round 1 of 4" in told
    assert result["sessions"] == 1


def test_what_passed_in_one_round_is_a_doubt_of_all(described, monkeypatch):
    calm, seen = environment.state(), []

    def state(*_):
        seen.append(calm | {"throttled": ["throttled"] if len(seen) == 2 else []})
        return seen[-1]

    monkeypatch.setattr(environment, "state", state)
    found = bench([described / "int8.tflite"], settings=QUICK)
    assert not found["valid"]
    assert "the firmware reports: throttled" in found["doubts"]
    assert found["environment_after"]["throttled"] == []


def test_a_session_without_rounds_doubts_none(described, labelled_npz, tmp_path, monkeypatch):
    journal, files = tmp_path / "journal", [described / "int8.tflite"]
    monkeypatch.setattr(environment.Usage, "others", lambda *_: 0.0)

    def stop(text):
        if text.startswith("accuracy"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(files, data=labelled_npz, settings=QUICK, journal=journal, on_progress=stop)
    monkeypatch.setattr(environment.Usage, "others", lambda *_: 0.9)
    found = bench(files, data=labelled_npz, settings=QUICK, journal=journal)
    assert (found["doubts"], found["sessions"]) == ([], 1)


def test_an_answer_that_is_no_number_fails_its_row(described, labelled_npz, monkeypatch):
    whole = Classifier.predict

    def diverged(self, images):
        answers = whole(self, images)
        if "int8" in str(self.model.path):
            answers.probabilities[0] = np.nan
        return answers

    monkeypatch.setattr(Classifier, "predict", diverged)
    files = [described / "float32.tflite", described / "int8.tflite"]
    result = bench(files, data=labelled_npz, settings=QUICK)
    fine, spoilt = result["models"]
    assert "accuracy" in fine
    assert "error" not in fine
    assert "int8.tflite: it answers 1 of 64 images with no numbers (NaN)" in spoilt["error"]


def test_precision_that_is_not_reached_is_said(described, monkeypatch):
    times = np.random.default_rng(0).uniform(30_000, 60_000, (2, 4, 5)).astype(np.int64)
    monkeypatch.setattr(  # a machine on which every round takes another time
        "edgecifar.runtime.rounds.time_interleaved", lambda *_, **__: [list(rows) for rows in times]
    )
    files = [described / "float32.tflite", described / "int8.tflite"]
    result = bench(files, settings=Settings(plan=TimingPlan(rounds=4, precision=0.02)))
    assert not result["valid"]
    assert any("wider than the 2 % asked for" in doubt for doubt in result["doubts"])
    steady = bench(files, settings=Settings(plan=TimingPlan(rounds=4, precision=0.9)))
    assert not any("asked for" in doubt for doubt in steady["doubts"])
