"""The agent as a process of this machine; a shell script stands for it."""

import os
import subprocess
import sys
import time

import pytest

from edgecifar.benchmarks.devices.child import forget, run_agent
from edgecifar.runtime import results
from edgecifar.runtime.agent import RESULT
from edgecifar.runtime.errors import EdgecifarError


def test_an_agent_may_say_more_than_a_pipe_holds(tmp_path):
    """As an interpreter's warnings do, one an image."""
    (tmp_path / RESULT).write_bytes(results.as_bytes(results.seal({"schema": 1, "kind": "bench"})))
    script = tmp_path / "agent"
    script.write_text(
        "head -c 300000 /dev/zero | tr '\\0' w >&2\n"
        'echo \'{"progress": "round 1"}\'\necho 7\necho \'{"done": true}\'\n'
    )
    code = (
        "import sys; from pathlib import Path\n"
        "from edgecifar.benchmarks.devices.child import run_agent\n"
        "script, folder = sys.argv[1], Path(sys.argv[2])\n"
        "print(run_agent(['sh', script], folder, print, what='it')['kind'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, script, tmp_path],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout == "round 1\nbench\n", done.stderr


def test_what_no_bench_uses_goes(tmp_path):
    month = time.time() - 31 * 24 * 3600
    bench, begun, store = (tmp_path / name for name in ("bench", "begun", "store"))
    for folder in (bench, begun, store):
        folder.mkdir()
    old, used, lock = store / "old", store / "used", tmp_path / "lock"
    for path in (old, used, lock):
        path.touch()
    for path in (begun, store, old, lock):
        os.utime(path, (month, month))
    forget(bench)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lock", "store", "used"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("echo 'a warning' >&2; echo 'no module numpy' >&2; exit 1", "it failed (no module numpy)"),
        ("exit 3", "it failed (exit status 3)"),
        ("exit 0", "it failed (exit status 0)"),
        ('echo \'{"error": "no file"}\'; exit 1', "no file"),
    ],
)
def test_an_agent_that_fails_says_why(said, error, tmp_path):
    with pytest.raises(EdgecifarError) as caught:
        run_agent(["sh", "-c", said], tmp_path, print, what="it")
    assert str(caught.value) == error
