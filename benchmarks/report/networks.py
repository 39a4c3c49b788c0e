"""Which files of a bench are of one network, and which of them is another's float form.

Names tell: those that edgecifar gives (`resnet8-p50-qat-int8` beside `resnet8-float32`), and what
others call theirs (`net_quant` beside `net`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgecifar.benchmarks.report.load import Bench, Measured

_FLOAT32 = frozenset(("float32", "float", "fp32"))
_NUMBERS = _FLOAT32 | {
    "float16", "fp16", "dynamic", "int8", "uint8", "int16x8", "quant", "quantized",
}  # fmt: skip
_FINE_TUNED = "qat"  # after which a name says what layers stayed in float
_STEP = re.compile(r"p\d+|s\d+|2of4")


@dataclass(frozen=True)
class Kin:
    """What a file's name says of it: network, what was done to that, and whether it is float32."""

    network: str
    steps: frozenset[str]
    is_float: bool


def kin(model: Measured) -> Kin:
    """Read a name, and where the file says it its architecture, whose name may look like a step."""
    known = str(model.metadata.get("architecture") or "")
    named = model.name == known or model.name.startswith(f"{known}-")
    begin, rest = (known, model.name[len(known) :]) if known and named else ("", model.name)
    parts = [part for part in re.split("[-_]", rest) if part]
    numbers = [part.lower() for part in parts if part.lower() in _NUMBERS]
    steps = {part for part in parts if _STEP.fullmatch(part)}
    if _FINE_TUNED in parts:
        parts, steps = parts[: parts.index(_FINE_TUNED)], steps | {_FINE_TUNED}
    own = [part for part in parts if part.lower() not in _NUMBERS and part not in steps]
    dtype = (model.raw.get("input") or {}).get("dtype")
    is_float = numbers[-1] in _FLOAT32 if numbers else dtype == "float32"
    return Kin("-".join([begin, *own] if begin else own), frozenset(steps), is_float)


def are_several(bench: Bench) -> bool:
    """Tell whether the files that could be measured are of more than one network."""
    return len({kin(model).network for model in bench.models if not model.error}) > 1


def originals(bench: Bench) -> Mapping[int, int]:
    """Return which file is the float form of which, by their places in the bench.

    It is of the same network and was timed alike; a pruned file's is that of the pruned network
    where there is one. A pruned float file's is the whole network's.
    """
    names = [kin(model) for model in bench.models]
    found = {}
    for index, own in enumerate(names):
        fitting = [
            other
            for other, theirs in enumerate(names)
            if theirs.network == own.network
            and theirs.is_float
            and (theirs.steps < own.steps if own.is_float else theirs.steps <= own.steps)
            and alike(bench.models[index], bench.models[other])
        ]
        if fitting and not bench.models[index].error:
            found[index] = max(fitting, key=lambda other: _nearness(bench, names, index, other))
    return found


def bases(bench: Bench) -> Mapping[int, int]:
    """Return what each file is compared with, by their places in the bench.

    Of several networks a file's own float form, if any has one in the bench; else the first file
    that could be measured.
    """
    if are_several(bench) and (found := originals(bench)):
        return found
    sound = (index for index, model in enumerate(bench.models) if not model.error)
    first = next(sound, 0)
    return {index: first for index in range(len(bench.models)) if index != first}


def alike(first: Measured, second: Measured) -> bool:
    """Tell whether the latencies of two files are of calls alike, and both could be measured."""
    same = all(first.raw.get(key, 1) == second.raw.get(key, 1) for key in ("threads", "batch"))
    return same and not first.error and not second.error


def _nearness(
    bench: Bench, names: list[Kin], index: int, other: int
) -> tuple[int, bool, bool, int]:
    """Order float forms: most done alike, same interpreter, same kind of file, the first."""
    ours, theirs = bench.models[index], bench.models[other]
    return (
        len(names[other].steps),
        ours.raw.get("backend") == theirs.raw.get("backend"),
        ours.suffix == theirs.suffix,
        -other,
    )
