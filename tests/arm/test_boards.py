"""Install, import, classify, verify and measure on emulated Raspberry Pis."""

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime import Classifier
from edgecifar.runtime.shipped import locate

TOUR = Path(__file__).parent / "tour.py"
_spec = importlib.util.spec_from_file_location("tour", TOUR)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
compute = _module.compute  # what runs on the board runs here too

AGREEMENT = 0.97  # of tflite-runtime's top-1 with LiteRT's; its kernels round elsewhere
ROUNDING = 10 / 256  # of a probability; the file allows 0.1 on another interpreter
TIE = 4 / 256  # the kernels' rounding chooses between two classes that lie no further apart


@pytest.fixture(scope="module")
def tour(python_of, model, images, photo, tmp_path_factory):
    """Visit a board once and return what it printed, and its outputs."""
    visited = {}

    def visit(board, **commands):
        if board in visited:
            return visited[board]
        python, folder = python_of(board), tmp_path_factory.mktemp(board)
        np.save(folder / "images.npy", images)
        commands = {
            "classify": ["classify", str(photo), "--model", str(model), "--json"],
            "verify": ["verify", str(model), "--json"],
            **commands,
        }
        done = subprocess.run(
            [python, TOUR, python, model, folder / "images.npy", folder / "outputs.npz",
             json.dumps(commands)],
            capture_output=True, text=True, check=False, timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        with np.load(folder / "outputs.npz") as arrays:
            visited[board] = told, dict(arrays)
        return visited[board]

    return visit


@pytest.fixture(scope="module")
def here(model, images):
    """What LiteRT on this machine computes."""
    return compute(Classifier(model, threads=1, backend="litert"), images)


@pytest.mark.parametrize("board", ["pi3", "pi4", "pi5"])
def test_litert_computes_the_same_bits(tour, here, board):
    """All but the softmax, whose table on 64-bit Arm gives now and then one step more or less."""
    told, there = tour(board)
    assert told["backend"].startswith("litert ")
    assert there["logits"].dtype == np.int8
    assert there["logits"].tobytes() == here["logits"].tobytes()
    steps = np.abs(there["scores"].astype(int) - here["scores"])
    assert steps.max() <= 1
    assert (there["scores"].argmax(axis=1) == here["scores"].argmax(axis=1)).all()
    assert len(np.unique(here["scores"].argmax(axis=1))) > 3  # or this would say little


@pytest.mark.parametrize("board", ["pi3", "pi4", "pi5"])
def test_commands_on_a_64_bit_board(tour, model, board, images):
    told, _ = tour(board)
    status, text, errors = told["classify"]
    assert status == 0, errors
    assert errors == ""
    expected = Classifier(model).predict(images[7])
    assert json.loads(text)["label"] == expected.labels[0]
    assert json.loads(text)["probability"] == pytest.approx(expected.probabilities.max(), abs=0.005)
    status, text, errors = told["verify"]
    assert status == 0, errors
    assert json.loads(text)["golden"]["largest_difference"] <= 1 / 256


def test_a_32_bit_board_with_tflite_runtime(tour, here, record_property):
    told, there = tour("pi3-32")
    assert told["backend"] == "tflite-runtime 2.14.0"
    labels = here["scores"].argmax(axis=1)
    agreement = (there["scores"].argmax(axis=1) == labels).mean()
    record_property("top-1 agreement of tflite-runtime with LiteRT", float(agreement))
    assert agreement >= AGREEMENT
    status, text, errors = told["verify"]
    assert status == 0, errors
    difference = np.abs(there["golden"] - here["golden"]).max()
    assert json.loads(text)["golden"]["largest_difference"] == pytest.approx(difference)
    assert difference <= ROUNDING
    second, first = np.sort(here["golden"])[:, -2:].T
    decided = first - second > TIE  # images that the model is least sure of are golden
    assert decided.any()
    assert (there["golden"].argmax(axis=1) == here["golden"].argmax(axis=1))[decided].all()
    status, _, errors = told["classify"]
    assert status == 0, errors
    assert set(told["damaged"]) <= {"read", "refused"}
    assert told["damaged"].count("refused") > 20


@pytest.mark.parametrize(
    ("board", "cpu"), [("pi3", "Cortex-A53"), ("pi4", "Cortex-A72"), ("pi5", "Cortex-A76")]
)
def test_bench_and_doctor_on_a_64_bit_board(python_of, board, cpu, tmp_path):
    python, model = python_of(board), locate("nano")
    commands = {
        "doctor": ["doctor", "--json"],
        "bench": ["bench", str(model), "--rounds", "2", "--json", str(tmp_path / "bench.json")],
    }
    done = subprocess.run(
        [python, TOUR, python, model, "", "", json.dumps(commands)],
        capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["doctor"][0] == 0, told["doctor"]
    found = json.loads(told["doctor"][1])
    assert found["machine"]["cpu"] == cpu
    assert ("dot product" in found["machine"]["features"]) == (board == "pi5")
    assert [row["name"] for row in found["interpreters"] if row["works"]] == ["litert"]
    expected = "has dot product" if board == "pi5" else "no dot product"
    assert any(expected in sentence for sentence in found["advice"])
    assert told["bench"][0] == 0, told["bench"]
    row = json.loads((tmp_path / "bench.json").read_text())["models"][0]
    assert row["latency_us"]["median"] > 0
    assert row["peak_memory_bytes"] > 10_000_000
