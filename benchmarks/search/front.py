"""What a search found: a table for the terminal, and the Pareto front as a drawing."""

from collections.abc import Sequence
from pathlib import Path

from edgecifar.benchmarks.pareto import unbeaten
from edgecifar.benchmarks.search.space import Limits
from edgecifar.benchmarks.search.trials import Trial
from edgecifar.train.console import plain_console
from edgecifar.train.files import write_whole


def front_of(trials: Sequence[Trial], limits: Limits) -> list[Trial]:
    """Return those that no other beats in accuracy and latency both, the fastest first."""
    return unbeaten(trials, lambda trial: trial.cost.latency(limits), lambda trial: trial.top1)


def print_trials(trials: Sequence[Trial], limits: Limits) -> None:
    """Print the trained shapes; a star marks those that no other beats in both figures."""
    from rich.table import Table

    front = front_of(trials, limits)
    table = Table("", "shape", title="trained shortly, the most accurate first; * is on the front")
    for title in ("top-1 %", "bytes", "us", "times the reference (95 %)"):
        table.add_column(title, justify="right")
    for trial in trials:
        cost = trial.cost
        table.add_row(
            "*" if trial in front else "",
            str(trial.shape),
            f"{trial.top1:.2f}",
            f"{cost.bytes:,}",
            f"{cost.latency_us:.0f}",
            f"{cost.ratio:.3f} ({cost.low:.3f} to {cost.high:.3f})",
        )
    plain_console().print(table)


def draw_front(trials: Sequence[Trial], limits: Limits, out: Path) -> list[Path]:
    """Draw accuracy against latency as `front.svg` and `front.png` in the folder `out`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    front = front_of(trials, limits)
    others = [trial for trial in trials if trial not in front]
    for group, style in ((others, "o"), (front, "o-")):
        places = [(trial.cost.latency(limits), trial.top1) for trial in group]
        if places:
            axes.plot(*zip(*places, strict=True), style, alpha=1.0 if group is front else 0.4)
    for trial in front:
        place = (trial.cost.latency(limits), trial.top1)
        axes.annotate(str(trial.shape), place, xytext=(4, -10), textcoords="offset points")
    axes.axvline(limits.latency, linestyle=":", color="grey", label="limit")
    axes.set_xlabel("latency (times the reference)" if limits.relative else "latency (us)")
    axes.set_ylabel("top-1 on validation images (%)")
    axes.legend()
    paths = [out / "front.svg", out / "front.png"]
    for path in paths:
        write_whole(path, lambda partial: figure.savefig(partial, dpi=150))
    return paths
