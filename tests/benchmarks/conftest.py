"""Inputs of a report whose numbers are real: small nets, trained and timed on sklearn's digits."""

import csv
import hashlib
import json
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime.benchmark import Settings
from edgecifar.runtime.results import pack_bits, pack_classes, seal
from edgecifar.runtime.statistics import latency, ratio, wilson
from edgecifar.runtime.timing import TimingPlan, time_interleaved
from edgecifar.train.evaluate import metrics

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Digits:
    """Features 0..1 and labels of three splits, and the test images as uint8 RGB."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    images: np.ndarray

    @property
    def info(self):
        fingerprint = hashlib.sha256(self.test[0].tobytes()).hexdigest()
        return {"name": "digits", "fingerprint": fingerprint}


@dataclass(frozen=True)
class Net:
    """A dense net with one hidden layer, as the arrays that sklearn has trained."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def __call__(self, x):
        hidden = np.maximum(x @ self.weights[0] + self.biases[0], 0)
        logits = hidden @ self.weights[1] + self.biases[1]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    def rounded(self, bits):
        """The net with weights rounded to so many bits, as quantization does."""
        steps = [2 ** (bits - 1) - 1] * 2
        scales = [np.abs(w).max() / s for w, s in zip(self.weights, steps, strict=True)]
        weights = [np.round(w / s) * s for w, s in zip(self.weights, scales, strict=True)]
        return Net(tuple(w.astype(np.float32) for w in weights), self.biases)


@pytest.fixture(scope="session")
def flat_digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = (data.data / 16).astype(np.float32)[order], data.target[order]
    grey = (data.images[order][1000:] * 15.9375).astype(np.uint8)
    images = np.repeat(np.kron(grey, np.ones((1, 4, 4), np.uint8))[..., None], 3, axis=3)
    return Digits((x[:800], y[:800]), (x[800:1000], y[800:1000]), (x[1000:], y[1000:]), images)


@pytest.fixture(scope="session")
def trained(flat_digits):
    """(net, history) of a narrow and a wide net."""
    return {"mlp8": _fit(flat_digits, 8), "mlp32": _fit(flat_digits, 32)}


def _fit(digits, hidden, epochs=25):
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((hidden,), learning_rate_init=0.01, batch_size=64, random_state=0)
    history = []
    for epoch in range(1, epochs + 1):
        model.partial_fit(*digits.train, classes=np.arange(10))
        row = {"epoch": epoch}
        for split, prefix in (("train", ""), ("validation", "val_")):
            x, y = getattr(digits, split)
            chances = model.predict_proba(x)
            row[f"{prefix}loss"] = -np.log(chances[np.arange(len(y)), y]).mean()
            row[f"{prefix}accuracy"] = (chances.argmax(1) == y).mean()
        history.append(row | {"learning_rate": 0.01, "seconds": 0.01})
    arrays = (
        tuple(w.astype(np.float32) for w in part) for part in (model.coefs_, model.intercepts_)
    )
    return Net(*arrays), history


@pytest.fixture(scope="session")
def run_folders(tmp_path_factory, flat_digits, trained):
    """Two finished runs."""
    root = tmp_path_factory.mktemp("runs")
    for name, (net, history) in trained.items():
        _write_run(root / name, flat_digits, net, history)
    return [root / name for name in trained]


def _write_run(folder, digits, net, history):
    folder.mkdir()
    parameters = sum(array.size for array in (*net.weights, *net.biases))
    info = {
        "schema": 1,
        "name": folder.name,
        "architecture": folder.name,
        "stage": "train",
        "classes": CLASSES,
        "image_size": [32, 32],
        "parameters": parameters,
        "macs": sum(w.size for w in net.weights),
        "dataset": digits.info,
        "recipe": {"epochs": len(history), "optimizer": "adam", "augment": {"flip": "none"}},
        "seed": 0,
        "versions": {"numpy": np.__version__, "python": platform.python_version()},
        "created": "2026-11-24T00:00:00+00:00",
        "best_epoch": 1 + int(np.argmax([row["val_accuracy"] for row in history])),
        "train_seconds": 0.25,
        "images_per_second": 80_000.0,
        "parent": None,
    }
    (folder / "run.json").write_text(json.dumps(info))
    with (folder / "history.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    figures = {
        name: metrics(net(x), y, CLASSES) | {"seconds": 0.01}
        for name, (x, y) in (("validation", digits.validation), ("test", digits.test))
    }
    (folder / "metrics.json").write_text(json.dumps(figures))
    x, y = digits.test
    np.savez_compressed(folder / "predictions-test.npz", probabilities=net(x), labels=y)


@pytest.fixture(scope="session")
def bench_result(flat_digits, trained):
    """A bench of a wide net, the same with 8-bit weights, and the narrow one, really timed."""
    wide, narrow = trained["mlp32"][0], trained["mlp8"][0]
    nets = {
        "mlp32-float32": (wide, 4),
        "mlp32-int8": (wide.rounded(8), 1),
        "mlp8-float32": (narrow, 4),
    }
    image = flat_digits.test[0][:1]
    plan = TimingPlan(rounds=8, slice_ms=4, warm_up_ms=10)
    samples = time_interleaved([lambda net=net: net(image) for net, _ in nets.values()], plan)
    return seal(
        {
            "schema": 1,
            "kind": "bench",
            "created": "2026-11-24T00:00:00+00:00",
            "environment": {
                "board": None,
                "cpu": "Test CPU",
                "features": ["avx2"],
                "memory_bytes": 16 * 10**9,
                "versions": {"numpy": np.__version__},
            },
            "valid": True,
            "doubts": [],
            "settings": {"threads": 1, **asdict(plan)},
            "data": flat_digits.info
            | {
                "n": len(flat_digits.test[1]),
                "classes": list(CLASSES),
                "labels": pack_classes(flat_digits.test[1], 10),
            },
            "models": [
                _measured(flat_digits, name, net, width, rounds, samples[0])
                for (name, (net, width)), rounds in zip(nets.items(), samples, strict=True)
            ],
        }
    )


def _measured(digits, name, net, width, rounds, baseline):
    x, y = digits.test
    predicted = net(x).argmax(axis=1)
    correct = predicted == y
    interval = wilson(int(correct.sum()), len(y))
    size = width * sum(array.size for array in net.weights)
    return {
        "name": name,
        "file": f"{name}.tflite",
        "sha256": hashlib.sha256(net.weights[0].tobytes()).hexdigest(),
        "file_bytes": size,
        "payload_bytes": size,
        "backend": f"numpy {np.__version__}",
        "input": {"shape": [1, 64], "dtype": "float32"},
        "latency_us": asdict(latency(rounds)),
        "ratio": asdict(ratio(rounds, baseline)),
        "peak_memory_bytes": 40_000_000,
        "load_ms": 1.0,
        "first_us": 50.0,
        "accuracy": {
            "top1": interval.value,
            "low": interval.low,
            "high": interval.high,
            "n": len(y),
            "correct": pack_bits(correct),
            "predicted": pack_classes(predicted, 10),
        },
        "metadata": {},
    }


@pytest.fixture
def bench_file(tmp_path, bench_result) -> Path:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench_result))
    return path


STUDY = {
    "first": """
title = "first"
architecture = "edge-8-s16"
export = ["float32"]
[train]
epochs = 1
batch_size = 64
learning_rate = 0.05
[quantize]
epochs = 1
""",
    "second": """
base = "first.toml"
title = "second"
fine_tune_int8 = false
[train]
optimizer = "adam"
learning_rate = 0.001
""",
    "broken": """
base = "second.toml"
title = "broken"
[train]
batch_size = 5000
""",
    "small-study": """
title = "A small study"
note = "A note for its readers."
[[members]]
recipe = "first.toml"
label = "First, ours"
reported = 12.5
asked = 99.9
tried = "One epoch."
[[members]]
recipe = "second.toml"
label = "Second"
asked = 1.0
seeds = [0, 1]
[[members]]
recipe = "broken.toml"
label = "Broken"
note = "larger batches than data"
[[ablation]]
recipe = "second.toml"
change = "the second"
[[ablation]]
recipe = "first.toml"
change = "and SGD"
[[ablation]]
recipe = "first.toml"
change = "as int8"
int8 = true
""",
}


@pytest.fixture(scope="session")
def short_bench():
    """Return `bench` with a few short rounds, whatever it is asked for."""
    from edgecifar.runtime.benchmark import bench

    quick = TimingPlan(rounds=3, slice_ms=2, warm_up_ms=2)

    def short(files, *, settings=None, **how):
        return bench(files, settings=replace(settings or Settings(), plan=quick), **how)

    return short


@pytest.fixture(scope="session")
def small_study(digits, short_bench, once):
    """The outcome of a study: its files and recipes lie in FOLDER, all results in FOLDER/runs.

    What is tested elsewhere is left out: long benches, verdicts and the page of each recipe.
    """
    from edgecifar.benchmarks.report import build
    from edgecifar.benchmarks.study import plan
    from edgecifar.benchmarks.study.carry_out import carry_out
    from edgecifar.compress import judge
    from edgecifar.runtime import benchmark

    def carry_all_out(folder):
        for name, text in STUDY.items():
            (folder / f"{name}.toml").write_text(text)
        chosen = plan.read(str(folder / "small-study.toml"))
        return carry_out(chosen, digits, folder / "runs" / "small", name="small-study")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "bench", short_bench)
        patch.setattr(judge, "judge", lambda *_: None)
        patch.setattr(build, "build_report", lambda runs, benches, out, **_: out)
        return once("study", carry_all_out)
