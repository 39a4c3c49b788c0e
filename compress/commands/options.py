"""What the commands of this package share: arguments, options and the teacher they name."""

import click

from edgecifar.train.adopt.options import open_all

force_option = click.option("--force", is_flag=True, help="Replace what stands there.")
TAUGHT = "A run whose answers are learnt too; repeat for the average of several."


def distillation_options(command):
    """Add --weight, --temperature and --views: the fields of `Distillation`."""
    options = (
        click.option(
            "--weight", type=float, help="The teacher's share of the loss.  [default: 0.9]"
        ),
        click.option("--temperature", type=float, help="Softens its answers.  [default: 3]"),
        click.option(
            "--views", type=int, help="Epochs of batches it is asked about.  [default: 20]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def distillation_of(options, *, taught):
    """Take --weight, --temperature and --views out of `options`; return the `Distillation`.

    Wrong usage without a teacher, that is unless `taught`.
    """
    from edgecifar.compress.distil import Distillation

    chosen = {key: options.pop(key) for key in ("weight", "temperature", "views")}
    given = {key: value for key, value in chosen.items() if value is not None}
    if given and not taught:
        raise click.UsageError("--weight, --temperature and --views need --teacher")
    return Distillation(**given)


def open_with_teachers(run, teachers, distillation, pixels, source, *, beside):
    """Return the run that a step starts from, the `Teacher` (None without) and the data of both.

    `source` are the values of `data_options`; see `open_all` for the others.
    """
    from edgecifar.compress.distil import Teacher

    (parent, *others), dataset = open_all((run, *teachers), pixels, source, beside=beside)
    return parent, Teacher(tuple(others), distillation) if others else None, dataset
