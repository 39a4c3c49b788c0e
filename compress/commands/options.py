"""What the commands of this package share: arguments, options and the teacher they name."""

import click

from edgecifar.train.adopt.options import open_given

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


def teacher_of(folders, options, source, *, pixels=None, beside=None):
    """Return the teacher in runs or model files (None if there are none), and the other options.

    `source` are the values of `data_options`; `pixels` and `beside` are for files, see
    `open_or_adopt`.
    """
    from edgecifar.compress.distil import Distillation, Teacher

    chosen = {key: options.pop(key) for key in ("weight", "temperature", "views")}
    given = {key: value for key, value in chosen.items() if value is not None}
    if given and not folders:
        raise click.UsageError("--weight, --temperature and --views need --teacher")
    runs = tuple(open_given(folder, pixels, source, beside=beside)[0] for folder in folders)
    return (Teacher(runs, Distillation(**given)) if runs else None), options
