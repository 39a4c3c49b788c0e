"""`kill -9` at random moments: no half file under a final name, and nothing measured is lost.

EDGECIFAR_KILLS says how many kills each test makes; the acceptance run takes 50.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from edgecifar.runtime import results
from edgecifar.runtime.stored import journal_of

KILLS = int(os.environ.get("EDGECIFAR_KILLS", "5"))
ROUNDS = 40


@pytest.mark.slow
@pytest.mark.parametrize("device", ["local", "ssh"])
def test_killed_at_any_moment(device, request, tiny_models, tiny_data, tmp_path):
    server = request.getfixturevalue("sshd") if device == "ssh" else None
    where = [f"--device=ssh://device?python={sys.executable}"] if server else []
    output = tmp_path / "result.json"
    command = [
        *(sys.executable, "-m", "edgecifar.runtime", "bench", *map(str, tiny_models)),
        *("--data", str(tiny_data), "--rounds", str(ROUNDS), "--json", str(output), *where),
    ]

    def finished_rounds():
        if server is None:
            return _rounds(journal_of(output))
        if any(server.cache.glob("bench-*/result.json")):  # all of them, only not fetched yet
            return ROUNDS
        return max(map(_rounds, server.cache.glob("bench-*/journal")), default=0)

    start = time.monotonic()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    whole = time.monotonic() - start
    output.unlink()
    chance, killed, known = random.Random(0), 0, 0
    while killed < KILLS:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=chance.uniform(0.05, whole))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        assert sorted(path.name for path in tmp_path.glob("[!.]*.json")) in ([], ["result.json"])
        if output.exists():
            _check(results.read(output))
            output.unlink()
            known = 0
            continue
        rounds = finished_rounds()
        assert rounds >= known, "finished rounds were lost"
        known = rounds
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _check(results.read(output))
    assert not journal_of(output).exists()


def _check(result):
    assert [row["name"] for row in result["models"]] == ["first", "second"]
    for row in result["models"]:
        assert "error" not in row
        assert row["accuracy"]["n"] == 48
        assert row["latency_us"]["n"] >= ROUNDS


def _rounds(journal):
    """Count the rounds that a journal has finished; a torn last line doesn't count."""
    if not journal.exists():
        return 0
    count = 0
    for line in journal.read_bytes().split(b"\n"):
        try:
            count += json.loads(line[9:]).get("kind") == "round"
        except ValueError:
            continue
    return count
