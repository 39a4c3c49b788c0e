import pytest

from edgecifar.benchmarks.documents.search_table import search_table
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError


def shape(text, ratio, top1=None):
    cost = {"bytes": 90_123, "latency_us": 100.0, "ratio": ratio, "low": 0.5, "high": 1.5}
    accuracy = top1 and {"top1": top1, "low": top1 - 1, "high": top1 + 1}
    return {
        "shape": text,
        "parameters": 82_650,
        "macs": 12_239_328,
        "cost": cost,
        "accuracy": accuracy,
    }


@pytest.fixture
def result(tmp_path):
    """A search that trained three of four shapes, `nano`'s among them."""
    content = {
        "schema": results.SCHEMA,
        "kind": "search",
        "data": {"name": "digits", "fingerprint": "0", "validation": 1234},
        "limits": {"bytes": 98_496, "latency": 1.0, "relative": True},
        "settings": {"--epochs": 3, "--seed": 7, "machine": "a board", "interpreter": "litert 2"},
        "shapes": [
            shape("16-s32", 0.9, 80.0),
            shape("16-s48", 0.4),
            shape("16p-s32r-s48r", 0.7, 85.5),
            shape("32-s48", 0.6, 75.0),
        ],
    }
    path = tmp_path / "search.json"
    path.write_bytes(results.as_bytes(results.seal(content)))
    return path


def test_what_was_trained_is_listed_with_its_front(result):
    head, _, first, second, third, _, note = search_table(result).splitlines()
    assert head.startswith("|  | shape | top-1 % (95 % interval) | times the reference |")
    assert first == (
        "| * | `16p-s32r-s48r` (`nano`) | 85.50 (84.50 to 86.50) | 0.70 (0.50 to 1.50) | 90,123 | "
        "82,650 | 12.2 M |"
    )
    assert second.startswith("|  | `16-s32` | 80.00 ")  # slower than one that is more accurate
    assert third.startswith("| * | `32-s48` | 75.00 ")
    assert "4 shapes were measured" in note
    assert "3 within `--max-bytes 98496 --max-latency 1x` trained for 3 epochs" in note
    assert "(seed 7); 1,234 validation images of digits." in note
    assert note.endswith("a board, litert 2.")


def test_a_result_that_was_edited_is_refused(result):
    result.write_text(result.read_text().replace("85.5", "95.5"))
    with pytest.raises(EdgecifarError, match="isn't what was measured"):
        search_table(result)
