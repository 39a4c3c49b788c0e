"""The machine at hand without AMX: the agent in a process to which the kernel refuses it.

AMX multiplies whole tiles of int8, so that other shapes are quick with it than on boards and on
processors without it. Interpreters ask Linux for it, as they must, and where it refuses they take
the kernels of a processor that has none.

``python -m edgecifar.benchmarks.devices.without_amx FOLDER`` is `edgecifar.runtime.agent` so.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecifar.benchmarks.devices.child import forget, lay_out, run_agent
from edgecifar.benchmarks.devices.parcel import Parcel, unpack
from edgecifar.runtime import agent, environment
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder

_AMX = "amx int8"
# Of Linux's asm/prctl.h, linux/prctl.h, linux/seccomp.h and linux/bpf_common.h, on x86-64.
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # with EPERM
_NUMBER, _FIRST_ARGUMENT = 0, 16  # where a system call's are in what a filter reads
_FILTER = (  # (code, instructions to leave out if equal, if not, operand)
    (_LOAD, 0, 0, _NUMBER),
    (_JUMP_IF_EQUAL, 0, 3, _ARCH_PRCTL),
    (_LOAD, 0, 0, _FIRST_ARGUMENT),
    (_JUMP_IF_EQUAL, 0, 1, _ARCH_REQ_XCOMP_PERM),
    (_RETURN, 0, 0, _REFUSE),
    (_RETURN, 0, 0, _ALLOW),
)


class WithoutAmx:
    """The machine that the command runs on, as if its processor had no AMX."""

    remote = True  # a process apart: what it asked the kernel for can't be taken back
    timed = True
    name = "local:without-amx"

    @classmethod
    def from_spec(cls, spec: str) -> "WithoutAmx":
        """Take `local:without-amx`; EdgecifarError if the processor has none."""
        if _AMX not in environment.cpu_features():
            raise EdgecifarError(f"{spec}: this processor has no AMX: take local")
        return cls()

    @staticmethod
    def features() -> list[str]:
        """Return the processor's features that decide how fast kernels are, but AMX."""
        return [feature for feature in environment.cpu_features() if feature != _AMX]

    def measure(self, parcel: Parcel, on_progress: Callable[[str], object]) -> dict[str, Any]:
        """Carry out the parcel's bench; EdgecifarError if the agent failed."""
        folder = self._folder(parcel)
        lay_out(folder, parcel)
        command = [sys.executable, "-u", "-m", __name__, str(folder)]
        result = run_agent(command, folder, on_progress, what="the process without AMX")
        result["environment"] |= {"features": self.features(), "withheld": [_AMX]}
        return unpack(parcel, result, self.name)

    def forget(self, parcel: Parcel) -> None:
        """Delete what the bench left in the cache; called once the result is stored."""
        forget(self._folder(parcel))

    def _folder(self, parcel: Parcel) -> Path:
        return cache_folder() / "without-amx" / parcel.key


class _Instruction(ctypes.Structure):
    """Linux's `struct sock_filter`."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_equal", ctypes.c_uint8),
        ("if_not", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """Linux's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def withhold() -> None:
    """Let the kernel refuse AMX to this process and to those that it starts, from now on.

    Raises EdgecifarError if the kernel can't be told so, or grants it nevertheless.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = (_Instruction * len(_FILTER))(*(_Instruction(*each) for each in _FILTER))
    program = _Program(len(_FILTER), instructions)
    refused = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    )
    if refused:
        why = os.strerror(ctypes.get_errno())
        raise EdgecifarError(f"the kernel takes no filter of system calls ({why}): take local")
    if libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA) == 0:
        raise EdgecifarError("the kernel grants AMX in spite of the filter: take local")


def main(arguments: list[str]) -> int:
    """Run as a program, as the agent's own `main` does."""
    try:
        withhold()
    except EdgecifarError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return agent.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
