"""Check the benchmark itself, on a real file and the machine at hand.

One file against itself must give a ratio whose interval holds 1, in 19 of 20 runs; the same file
with 5 % more work a call must be told apart every time. Rounds go on until intervals are as narrow
as `edgecifar bench --precision 2%` makes them. Run it on a quiet machine as
`python -m edgecifar.benchmarks.checks.harness FILE`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from edgecifar.benchmarks.program import Program
from edgecifar.runtime import environment
from edgecifar.runtime.candidates import Candidate, load, loader_of
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.rounds import too_wide
from edgecifar.runtime.statistics import Estimate, ratio
from edgecifar.runtime.timing import TimingPlan, time_interleaved, warm_up

_SURE = 0.95  # that an interval holds the truth
_WARM_UP_MS = 500
_PLAN = TimingPlan(precision=0.02)


@dataclass(frozen=True)
class Check:
    """What came of it: ratios of the file to itself, and of the slowed file to it."""

    same: tuple[Estimate, ...]
    slowed: tuple[Estimate, ...]
    others: float | None

    @property
    def held(self) -> int:
        """Runs in which the file against itself gave an interval with 1 in it."""
        return sum(one.low <= 1 <= one.high for one in self.same)

    @property
    def told_apart(self) -> int:
        """Runs in which the slowed file's interval lay above 1."""
        return sum(one.low > 1 for one in self.slowed)

    @property
    def passed(self) -> bool:
        """Whether the harness is as exact as it claims."""
        runs = len(self.same)
        return self.held >= least_held(runs) and self.told_apart == len(self.slowed)


def least_held(runs: int) -> int:
    """Return how many of so many 95 % intervals hold the truth, but for one time in twenty."""
    fewer = 0.0  # the chance that only so many do or fewer
    for held in range(runs + 1):
        fewer += math.comb(runs, held) * _SURE**held * (1 - _SURE) ** (runs - held)
        if fewer > 1 - _SURE:
            return held
    return runs


Call = Callable[[], object]


def check(
    load_anew: Callable[[], Call],
    *,
    runs: int = 20,
    slowdown: float = 0.05,
    plan: TimingPlan = _PLAN,
    on_run: Callable[[int], object] = lambda number: None,
) -> Check:
    """Check the timing loop on the call that `load_anew` gives."""
    same, slowed, before = [], [], environment.usage()
    for number in range(runs):
        same.append(_ratio(load_anew, load_anew, plan))
        extra = slowdown * warm_up(load_anew(), _WARM_UP_MS)
        slowed.append(_ratio(load_anew, lambda extra=extra: _slower(load_anew(), extra), plan))
        on_run(number + 1)
    return Check(tuple(same), tuple(slowed), before.others(environment.usage()))


def _ratio(first: Callable[[], Call], second: Callable[[], Call], plan: TimingPlan) -> Estimate:
    renew = first, second
    baseline, rounds = time_interleaved(
        [make() for make in renew],
        plan,
        renew=renew,
        enough=lambda samples: not too_wide(samples, plan, first=0),
    )
    return ratio(rounds, baseline)


def _slower(call: Call, nanoseconds: float) -> Call:
    """Return the call with so much more work behind it."""
    clock = time.perf_counter_ns

    def slowed() -> None:
        call()
        end = clock() + nanoseconds
        while clock() < end:
            pass

    return slowed


def _loader(path: Path) -> Callable[[], Call]:
    row = Candidate(path)
    load(row, timed=True)
    return loader_of(row, {})


def _told(estimates: tuple[Estimate, ...]) -> str:
    widths = sorted(one.high - one.low for one in estimates)
    values = sorted(one.value for one in estimates)
    middle = len(estimates) // 2
    return (
        f"ratio {values[0]:.4f} to {values[-1]:.4f}, median {values[middle]:.4f}; "
        f"intervals {100 * widths[middle]:.2f} % wide"
    )


@click.command(cls=Program)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Benches of each kind.",
)
@click.option("--slowdown", default=0.05, show_default=True, help="Share of work to add.")
def main(file: Path, runs: int, slowdown: float) -> None:
    """Bench FILE against itself, and against itself slowed down."""
    found = check(
        _loader(file),
        runs=runs,
        slowdown=slowdown,
        on_run=lambda number: click.echo(f"\r{number} of {runs}", nl=False, err=True),
    )
    click.echo("", err=True)
    click.echo(f"against itself: {found.held} of {runs} intervals hold 1; {_told(found.same)}")
    click.echo(
        f"{100 * slowdown:g} % slower: {found.told_apart} of {runs} told apart; "
        f"{_told(found.slowed)}"
    )
    if found.others is not None:
        click.echo(f"other programs kept the processor {100 * found.others:.0f} % busy")
    if not found.passed:
        raise EdgecifarError("the harness isn't exact enough here: is the machine quiet?")


if __name__ == "__main__":
    main()
