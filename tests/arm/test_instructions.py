import shutil

import pytest

from edgecifar.benchmarks.checks import instructions


def test_int8_takes_fewer_instructions_with_dot_product(python_of, model, rootfs_cache):
    """A count that differs as the processors do, and that is much larger than Python's share."""
    for tool in ("qemu-aarch64", "cc"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing: apt-get install qemu-user gcc libc6-dev")
    python_of("pi4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECIFAR_CACHE", rootfs_cache)
        plain, dot, again = (instructions.count(model, board) for board in ("pi4", "pi5", "pi5"))
    assert 0.5e6 < dot < plain < 50e6
    assert again == pytest.approx(dot, rel=1e-3)  # start-up, which differs, isn't counted
