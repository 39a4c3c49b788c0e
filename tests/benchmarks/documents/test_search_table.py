import pytest

from edgecifar.benchmarks.documents.search_table import search_table
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError


def shape(text, ratio, top1=None):
    cost = {"bytes": 90_123, "latency_us": 100.0, "ratio": ratio, "low": 0.5, "high": 1.5}
    accuracy = top1 and {"top1": top1, "low": top1 - 1, "high": top1 + 1}
    return {
        "shape": text,
        "also": text == "16p-s32r-s48r",
        "parameters": 82_650,
        "macs": 12_239_328,
        "cost": cost,
        "accuracy": accuracy,
    }


@pytest.fixture
def result(tmp_path):
    """A search that trained four of five shapes, `nano`'s among them."""
    content = {
        "schema": results.SCHEMA,
        "kind": "search",
        "created": "2026-01-02T03:04:05+00:00",
        "valid": True,
        "doubts": [],
        "unfinished": [],
        "reference": "resnet8",
        "data": {"name": "digits", "fingerprint": "0", "validation": 1234},
        "limits": {"bytes": 98_496, "latency": 1.0, "relative": True},
        "settings": {"--epochs": 3, "--seed": 7, "machine": "a board", "interpreter": "litert 2"},
        "shapes": [
            shape("16-s32", 0.9, 80.0),
            shape("16-s48", 0.4),
            shape("16p-s32r-s48r", 0.7, 85.5),
            shape("32-s48", 0.6, 75.0),
            shape("64-s64", 1.1, 90.0),  # of an earlier search within other limits
        ],
    }
    path = tmp_path / "search.json"
    path.write_bytes(results.as_bytes(results.seal(content)))
    return path


def test_what_was_trained_is_listed_with_its_front(result):
    head, _, first, second, third, _, note = search_table(result).splitlines()
    assert head.startswith("|  | shape | top-1 % (95 % interval) | µs | times `resnet8` | bytes |")
    assert first == (
        "| * | `16p-s32r-s48r` (`nano`) | 85.50 (84.50 to 86.50) | 100.0 | 0.70 (0.50 to 1.50) | "
        "90,123 | 12.2 M |"
    )
    assert second.startswith("|  | `16-s32` | 80.00 ")  # slower than one that is more accurate
    assert third.startswith("| * | `32-s48` | 75.00 ")
    assert "5 shapes were measured with random weights, 1 of them beside those drawn" in note
    assert "3 within `--max-bytes 98496 --max-latency 1x` were trained for 3 epochs" in note
    assert "(seed 7); 1,234 validation images of digits." in note
    assert note.endswith("a board, litert 2, 2026-01-02.")


def test_a_result_that_was_edited_is_refused(result):
    result.write_text(result.read_text().replace("85.5", "95.5"))
    with pytest.raises(EdgecifarError, match="isn't what was measured"):
        search_table(result)


@pytest.mark.parametrize("flaw", [{"doubts": ["it throttled"]}, {"unfinished": ["16-s64 (a, 1)"]}])
def test_what_is_doubtful_or_unfinished_is_not_published(result, flaw):
    content = results.read(result, kind="search")
    result.write_bytes(results.as_bytes(results.seal(content | flaw)))
    with pytest.raises(EdgecifarError, match=r"can't be published \((it throttled|16-s64)"):
        search_table(result)
