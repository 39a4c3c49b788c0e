"""What a compression step changed, before and after, and in plain words whether it paid."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from edgecifar.compress.latency import doubtful, faster, told
from edgecifar.runtime.statistics import Estimate, describe_change


@dataclass(frozen=True)
class Side:
    """One model of a comparison, and the file that its size and speed are those of."""

    name: str  # the file's, such as `net-int8`
    macs: int
    parameters: int
    top1: float  # percent, on validation images
    file_bytes: int
    zipped: int
    zeros: float  # share of the kernels' weights that are zero
    us: float  # median latency of one image, one thread, on this machine
    agreement: float | None = None  # percent of images with the answer of the first side


@dataclass(frozen=True)
class Verdict:
    """A parent and what a step made of it, measured in one go.

    Pruning is judged by the accuracy of the float models, and by size and latency of their int8
    files as quantized after training, or of their float32 files where there can be none, and
    `why_float` says why; so is a student, against its teacher. Quantization is judged by the int8
    file that was fine-tuned, against the float model; `beside` them is that model's int8 file
    without fine-tuning.
    """

    step: str  # the stage of the run: "prune", "sparsify", "distil" or "quantize"
    before: Side
    after: Side
    latency_ratio: Estimate  # of `after` to `before`; below 1 it is faster
    accuracy_change: Estimate  # in points, paired on the same images
    images: int
    beside: Side | None = None
    beside_change: Estimate | None = None  # in points, of `after` against `beside`
    original: str | None = None  # the run that earlier steps began with, unless `before` is that
    original_change: Estimate | None = None  # in points, of `after` against `original`
    why_float: str | None = None
    doubts: tuple[str, ...] = ()  # why the latencies can't be trusted

    @property
    def precision(self) -> str:
        """Return that of the files whose size and latency count."""
        return "float32" if self.why_float else "int8"

    @property
    def sides(self) -> tuple[Side, ...]:
        """All of them, as the columns of a table."""
        return (self.before, *([self.beside] if self.beside else []), self.after)

    @property
    def text(self) -> str:
        """One line that says what was gained and what it cost."""
        size = (
            f"file {self.after.file_bytes / self.before.file_bytes:.2f}x, "
            f"zipped {self.after.zipped / self.before.zipped:.2f}x"
        )
        accuracy = self._accuracy()
        if self.original:
            whole = describe_change(self._measured, self.original_change)
            accuracy += f", since {self.original} in all {whole}"
        if self.step == "sparsify":
            gain = "no speed-up is to be expected: kernels multiply zeros like other weights"
            measured = f"(measured {told(self.latency_ratio)})"
            return f"{size}, {accuracy}; {gain} {measured}{self._why()}{doubtful(self.doubts)}"
        text = f"{self._speed()}, {size}, {accuracy}"
        text += f"; {self._fine_tuning()}" if self.beside else self._why()
        return text + doubtful(self.doubts)

    def rows(self) -> list[tuple[str, ...]]:
        """Return (what, then a value of each side) as a table shows them."""
        titles = {"top1": f"validation top-1 %{'' if self.beside else ', float'}"}
        return [
            (titles.get(name, title), *(_shown(getattr(side, name), form) for side in self.sides))
            for title, name, form in _ROWS
            if getattr(self.after, name) is not None
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self) | {"verdict": self.text}

    def _speed(self) -> str:
        return f"{self.precision} is {faster(self.latency_ratio, _AGAINST.get(self.step, ''))}"

    @property
    def _measured(self) -> str:
        """Name what was measured: size and latency may be those of other files."""
        return "accuracy" if self.beside else "float accuracy"

    def _why(self) -> str:
        return f"; no int8 file can be made of it ({self.why_float})" if self.why_float else ""

    def _accuracy(self) -> str:
        said = describe_change(
            self._measured, self.accuracy_change, f", {self.images:,} validation images"
        )
        if self.after.agreement is None:
            return said
        return f"{said}, {self.after.agreement:.2f} % of answers the same"

    def _fine_tuning(self) -> str:
        change = self.beside_change
        if change.low <= 0 <= change.high:
            interval = f"{change.low:+.2f} to {change.high:+.2f}"
            gain = f"fine-tuning won nothing beyond chance ({change.value:+.2f} points, {interval})"
        else:
            gain = f"{describe_change('', change)} by fine-tuning"
        return f"{gain}: int8 without it has {self.beside.top1:.2f} %"


_AGAINST = {"quantize": "float32", "distil": "its teacher"}
_ROWS = (
    ("MACs", "macs", ",d"),
    ("parameters", "parameters", ",d"),
    ("validation top-1 %", "top1", ".2f"),
    ("same answers as float32 %", "agreement", ".2f"),
    ("bytes", "file_bytes", ",d"),
    ("bytes, zipped", "zipped", ",d"),
    ("weights that are zero", "zeros", ".1%"),
    ("latency, microseconds", "us", ".1f"),
)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
