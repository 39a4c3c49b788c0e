import shutil

import pytest

from edgecifar.benchmarks.checks import instructions
from edgecifar.runtime.shipped import locate


@pytest.fixture
def count(python_of, rootfs_cache, monkeypatch):
    """Return `count` over fewer inferences, of which each executes the same instructions."""
    for tool in ("qemu-aarch64", "cc"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing: apt-get install qemu-user gcc libc6-dev")
    python_of("pi4")
    monkeypatch.setenv("EDGECIFAR_CACHE", rootfs_cache)
    monkeypatch.setattr(instructions, "_COUNTED", 4)
    return instructions.count


def test_int8_takes_fewer_instructions_with_dot_product(count, model):
    """A count that differs as the processors do, and that is much larger than Python's share."""
    plain, dot = (count(model, board) for board in ("pi4", "pi5"))
    assert 0.5e6 < dot < plain < 50e6


def test_a_count_is_the_same_each_time(count):
    """Start-up, which differs, isn't counted."""
    first, again = (count(locate("nano"), "pi5") for _ in range(2))
    assert again == pytest.approx(first, rel=1e-3)
