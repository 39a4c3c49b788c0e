"""The command `distil`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import (
    distillation_of,
    distillation_options,
    force_option,
)
from edgecifar.train.adopt.options import open_all, pixels_option, say
from edgecifar.train.commands import suited
from edgecifar.train.data.options import data_options
from edgecifar.train.settings import LARGEST_SEED


@click.command()
@click.argument(
    "teachers", metavar="TEACHER...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@pixels_option
@data_options
@click.option("--student", required=True, metavar="ARCHITECTURE", help="The network to train.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The run's folder.  [runs/STUDENT-distilled]"
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training images.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of `edgecifar train`, such as augment.cutout=8; repeat as needed.",
)
@distillation_options
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@force_option
def distil(teachers, pixels, student, out, epochs, assignments, seed, force, **options):
    """Train a small network on what the run TEACHER says of the images, or several on average.

    The table at the end compares it with TEACHER.
    """
    from edgecifar.compress.commands.summary import print_verdict
    from edgecifar.compress.distil import Teacher
    from edgecifar.compress.steps import distil_and_judge
    from edgecifar.train import models
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.parsing import override, parse_assignments
    from edgecifar.train.summary import print_run

    changes = ({"epochs": epochs} if epochs else {}) | parse_assignments(assignments)
    settings = override(models.find(student).settings, changes)
    distillation = distillation_of(options, taught=True)
    start_tensorflow()
    out = out or Path("runs") / f"{student}-distilled"
    runs, dataset = open_all(teachers, pixels, options, beside=out)
    settings = suited(settings, changes, dataset)
    teacher = Teacher(runs, distillation)
    how = {"seed": seed, "force": force, "report": say}
    run, verdict = distil_and_judge(teacher, student, dataset, settings, out, **how)
    print_run(run)
    print_verdict(verdict)
