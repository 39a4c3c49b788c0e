"""The command `sensitivity`."""

import click

from edgecifar.train.adopt.options import open_given, run_argument
from edgecifar.train.console import plain_console
from edgecifar.train.data.options import data_options

_BAR = 16  # characters of the longest bar


@click.command()
@run_argument
@data_options
@click.option("--images", default=1000, show_default=True, help="Validation images to measure on.")
@click.option(
    "--calibration", type=int, help="Training images to take ranges from.  [default: 500]"
)
def sensitivity(run, pixels, images, calibration, **source):
    """Show what each layer of RUN loses in int8, the others left in float.

    The layers that lose most are those to give to --keep-float.
    """
    from edgecifar.compress.sensitivity import sensitivity as measure
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.progress import progress

    start_tensorflow()
    opened, dataset = open_given(run, pixels, source)
    with progress() as bar:
        measured = measure(opened, dataset, images=images, calibration=calibration, track=bar.track)
    _print_measured(measured, opened)


def _print_measured(measured, run) -> None:
    from rich import box
    from rich.table import Table

    most = max(each.divergence for each in measured.layers)
    table = Table(
        title=f"{run.name}, {measured.float_top1:.2f} % in float: one layer at a time in int8, "
        f"change of top-1 in points and divergence of the probabilities in nats, "
        f"{measured.images:,} validation images",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in ("layer", "operation"):
        table.add_column(title, overflow="fold")  # where all is too wide: names, not figures
    for title in ("points", "nats"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for each in measured.ranked:
        table.add_row(
            each.layer,
            " ".join(each.operations),
            f"{each.top1_change:+.2f}",
            f"{each.divergence:.1e}",
            "█" * max(1, round(_BAR * each.divergence / most)) if most > 0 else "",
        )
    console = plain_console()
    console.print(table)
    stored = run.findings / "sensitivity.json"
    console.print(f"stored in {stored} and plots/sensitivity.svg", soft_wrap=True)
