import json

import numpy as np
import pytest

from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError

RESULT = {"schema": 1, "kind": "bench", "models": [{"name": "x", "latency_us": {"median": 41.25}}]}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(results.as_bytes(results.seal(RESULT)))
    return path


def test_a_sealed_result_is_read_back(stored):
    assert results.read(stored) == results.seal(RESULT)
    assert results.seal(results.read(stored)) == results.seal(RESULT)


def test_layout_is_free_and_content_is_not(stored):
    content = json.loads(stored.read_text())
    stored.write_text(json.dumps(dict(reversed(content.items()))))
    assert results.read(stored)["models"] == RESULT["models"]
    content["models"][0]["latency_us"]["median"] = 21.25
    stored.write_text(json.dumps(content))
    with pytest.raises(EdgecifarError, match="checksum differs"):
        results.read(stored)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a bench result"),
        (json.dumps(RESULT | {"kind": "run"}), "not a bench result"),
        (json.dumps(results.seal(RESULT | {"schema": 2})), "schema 2"),
        (json.dumps(RESULT), "checksum differs"),
        (json.dumps(RESULT | {"load_ms": float("nan")}), "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"kind": "bench", "schema": 1, "a": ' + "[" * 900 + "]" * 900 + "}", "differs|JSON"),
    ],
)
def test_what_is_refused(stored, content, message):
    stored.write_text(content)
    with pytest.raises(EdgecifarError, match=message) as caught:
        results.read(stored)
    assert str(stored) in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(EdgecifarError, match="no such file"):
        results.read(tmp_path / "none.json")


@pytest.mark.parametrize("count", [2, 256, 257, 1000])
def test_classes_and_bits_survive(count):
    rng = np.random.default_rng(count)
    classes = rng.integers(0, count, 77)
    found = results.unpack_classes(results.pack_classes(classes, count), count)
    assert np.array_equal(found, classes)
    bits = classes % 2 == 0
    assert np.array_equal(results.unpack_bits(results.pack_bits(bits), 77), bits)
    with pytest.raises(ValueError, match="answers"):
        results.unpack_bits(results.pack_bits(bits), 100)
    with pytest.raises(ValueError):  # noqa: PT011 (the library's words)
        results.unpack_bits("%", 1)


def test_intervals_follow_from_the_rounds_that_a_result_keeps(tmp_path):
    """Whatever those were that an earlier version computed from them."""
    rounds, known = [50.0, 50.5, 51.0, 51.5, 52.0, 52.5, 53.0], {"value": 1, "low": 1, "high": 1}
    latency = {"median": 51.5, "p90": 60.0, "p99": 70.0, "n": 700, "low": 51.4, "high": 51.6}
    row = {"rounds_us": rounds, "latency_us": latency, "ratio": known}
    half = row | {"rounds_us": [time / 2 for time in rounds], "ratio": known | {"value": 0.5}}
    models = [row, half, {"name": "it failed", "error": "no such file"}]
    path = tmp_path / "r.json"
    path.write_bytes(results.as_bytes(results.seal(RESULT | {"models": models})))
    first, second, third = results.read(path)["models"]
    assert first["latency_us"] == latency | {"low": 50.0, "high": 53.0}
    assert (first["ratio"], second["ratio"]) == (known, {"value": 0.5, "low": 0.5, "high": 0.5})
    assert third == models[2]
