"""The command `distil`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import distillation_options, force_option, teacher_of
from edgecifar.train.adopt.options import pixels_option
from edgecifar.train.data.options import data_options


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
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of `edgecifar train`, such as augment.cutout=8; repeat as needed.",
)
@distillation_options
@click.option("--seed", type=int, default=0, show_default=True)
@force_option
def distil(teachers, pixels, student, out, epochs, assignments, seed, force, **options):
    """Train a small network on what the run TEACHER says of the images, or several on average."""
    from edgecifar.compress.distil import distil as learn
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.recipe import Training, override, parse_assignments
    from edgecifar.train.summary import print_run

    changes = ({"epochs": epochs} if epochs else {}) | parse_assignments(assignments)
    settings = override(Training(), changes)
    start_tensorflow()
    out = out or Path("runs") / f"{student}-distilled"
    source = {key: options.pop(key) for key in ("data", "image_size", "skip_corrupt")}
    teacher, _ = teacher_of(teachers, options, source, pixels=pixels, beside=out)
    print_run(learn(teacher, student, load(**source), settings, out, seed=seed, force=force))
