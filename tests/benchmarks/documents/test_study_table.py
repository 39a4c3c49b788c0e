import json
import re

from edgecifar.benchmarks.documents.study_table import study_table
from edgecifar.runtime import results


def test_the_table_of_the_readme(small_study, tmp_path):
    rows = study_table(small_study.result).splitlines()
    head, _, first, second, broken, _, footnote = rows
    assert head.startswith("| system | reported | asked | ours, float32 | ours, int8 |")
    assert re.match(
        r"\| First, ours \| 12\.50 % \| 99\.90 %, \*\*missed by \d\d\.\d\d\*\* \|", first
    )
    assert second.startswith("| Second | — | 1.00 %, met |")
    assert "1 seed)" in first
    assert second.count("2 seeds)") == 1  # float32
    assert broken == "| Broken (larger batches than data) | — | — | not run yet | — | — | — |"
    assert "359 test images of digits" in footnote
    assert "First, ours, missed: One epoch." in footnote
    assert footnote.endswith("A note for its readers.")
    assert "[1]" not in first + footnote
    stored = json.loads(small_study.result.read_text())
    twice = tmp_path / "twice.json"
    twice.write_bytes(results.as_bytes(results.seal(stored | {"benches": stored["benches"] * 2})))
    _, _, first, *_, footnote = study_table(twice).splitlines()
    assert first.endswith("µs [1] |")
    assert "[1] " in footnote
    assert "; [2] " in footnote
    stored["members"][0]["seeds"] = [0, 1, 2]
    some = tmp_path / "some.json"
    some.write_bytes(results.as_bytes(results.seal(stored)))
    _, _, first, *_, footnote = study_table(some).splitlines()
    assert re.search(r"\*\*missed so far by \d\d\.\d\d\*\* \|", first)
    assert first.count(", 1 of 3 seeds)") == 2  # float32 and int8
    assert "First, ours, missed so far: One epoch." in footnote
    stored["benches"][0] |= {"valid": False, "doubts": ["it throttled"]}
    doubtful = tmp_path / "doubtful.json"
    doubtful.write_bytes(results.as_bytes(results.seal(stored)))
    assert "These latencies are not valid: it throttled." in study_table(doubtful)
