"""The commands `prune`, `distil`, `quantize` and `export`."""

from pathlib import Path

import click

from edgecifar.train.data.options import data_options

_RUN = click.argument("run", type=click.Path(path_type=Path))
_FORCE = click.option("--force", is_flag=True, help="Replace what stands there.")
_TAUGHT = "A run whose answers are learnt too; repeat for the average of several."


def _distillation_options(command):
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


@click.command()
@_RUN
@data_options
@click.option("--macs", type=float, help="Share of multiply-accumulates to leave, such as 0.5.")
@click.option("--params", type=float, help="Share of parameters to leave.")
@click.option("--latency", type=float, help="Share of int8 latency to leave, measured here.")
@click.option("--sparsity", type=float, help="Share of single weights to make zero.")
@click.option("--two-four", is_flag=True, help="Make two of four neighbouring weights zero.")
@click.option(
    "--importance",
    type=click.Choice(["taylor", "bn", "l1"]),
    help="What filters are judged by.  [default: taylor]",
)
@click.option("--multiple", type=int, help="Leave multiples of this many filters.  [default: 8]")
@click.option("--keep", multiple=True, metavar="LAYER", help="Leave this layer whole; repeatable.")
@click.option("--rounds", type=int, help="Rounds of removal and fine-tuning.  [default: 3]")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of the last fine-tuning.")
@click.option("--learning-rate", type=float, help="Its highest learning rate.  [default: 0.1]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-p50, say.")
@click.option("--seed", type=int, default=0, show_default=True)
@_FORCE
def prune(run, out, seed, force, data, image_size, skip_corrupt, **options):
    """Make the model of RUN smaller, or sparser, and fine-tune it.

    --macs, --params and --latency remove whole filters: a smaller dense model, faster everywhere.
    --sparsity and --two-four make single weights zero: the compressed file shrinks, nothing more.
    """
    from edgecifar.compress.pruning import prune_run, recipe_for
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.run import open_run

    recipe = recipe_for(**options)
    start_tensorflow()
    parent = open_run(run)
    dataset = load(data, image_size=image_size, skip_corrupt=skip_corrupt)
    verdict = prune_run(parent, dataset, recipe, out, seed=seed, force=force, report=_say)
    _print_verdict(verdict)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_verdict(verdict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", verdict.before.name, verdict.after.name, title="before and after")
    for row in verdict.rows():
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(verdict.text)


@click.command()
@_RUN
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-qat.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of fine-tuning.  [default: 8]")
@click.option("--learning-rate", type=float, help="Its highest learning rate.  [default: 0.01]")
@click.option("--teacher", "teachers", multiple=True, type=click.Path(path_type=Path), help=_TAUGHT)
@_distillation_options
@click.option("--seed", type=int, default=0, show_default=True)
@_FORCE
def quantize(run, out, epochs, learning_rate, teachers, seed, force, **options):
    """Fine-tune the model of RUN with quantization in the loop.

    The int8 file exported from the new run loses less than one quantized after training.
    """
    from edgecifar.compress.quantize import Quantization
    from edgecifar.compress.quantize import quantize as fine_tune
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.run import open_run
    from edgecifar.train.summary import print_run

    start_tensorflow()
    parent = open_run(run)
    chosen = {"epochs": epochs, "learning_rate": learning_rate}
    recipe = Quantization(**{key: value for key, value in chosen.items() if value is not None})
    out = out or run.with_name(f"{parent.name}-qat")
    teacher, source = _teacher(teachers, options)
    run = fine_tune(parent, load(**source), recipe, out, seed=seed, force=force, teacher=teacher)
    print_run(run)


@click.command()
@click.argument(
    "teachers", metavar="TEACHER...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
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
@_distillation_options
@click.option("--seed", type=int, default=0, show_default=True)
@_FORCE
def distil(teachers, student, out, epochs, assignments, seed, force, **options):
    """Train a small network on what the run TEACHER says of the images, or several on average."""
    from edgecifar.compress.distil import distil as learn
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.recipe import Training, override, parse_assignments
    from edgecifar.train.summary import print_run

    changes = ({"epochs": epochs} if epochs else {}) | parse_assignments(assignments)
    settings = override(Training(), changes)
    start_tensorflow()
    teacher, source = _teacher(teachers, options)
    out = out or Path("runs") / f"{student}-distilled"
    print_run(learn(teacher, student, load(**source), settings, out, seed=seed, force=force))


def _teacher(folders, options):
    """Return the teacher in run folders (None if there are none), and the other options."""
    from edgecifar.compress.distil import Distillation, Teacher
    from edgecifar.train.run import open_run

    chosen = {key: options.pop(key) for key in ("weight", "temperature", "views")}
    given = {key: value for key, value in chosen.items() if value is not None}
    if given and not folders:
        raise click.UsageError("--weight, --temperature and --views need --teacher")
    runs = tuple(open_run(folder) for folder in folders)
    return (Teacher(runs, Distillation(**given)) if runs else None), options


@click.command()
@_RUN
@data_options
@click.option("--int8", is_flag=True, help="TFLite, int8 throughout.")
@click.option("--float32", is_flag=True, help="TFLite, float32.")
@click.option("--float16", is_flag=True, help="TFLite, weights in float16.")
@click.option("--dynamic", is_flag=True, help="TFLite, weights in int8, activations in float32.")
@click.option("--onnx", is_flag=True, help="ONNX, float32.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files; RUN/exports.")
@_FORCE
def export(run, out, force, int8, float32, float16, dynamic, onnx, **source):
    """Write the model of RUN to files for devices, each compared with Keras.

    The files take raw pixels. An operation left in float fails an int8 export and is named.
    """
    from edgecifar.compress.export import export as write
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.run import open_run

    wanted = {
        "int8": int8,
        "float32": float32,
        "float16": float16,
        "dynamic": dynamic,
        "onnx": onnx,
    }
    chosen = [name for name, asked in wanted.items() if asked]
    if not chosen:
        raise click.UsageError("choose at least one of " + " ".join(f"--{n}" for n in wanted))
    start_tensorflow()
    _print_exported(write(open_run(run), load(**source), chosen, folder=out, force=force))


def _print_exported(exported) -> None:
    from rich.console import Console
    from rich.table import Table

    n = exported[0].parity.n
    table = Table(title=f"against Keras on {n} validation images")
    for title in ("file", "bytes", "top-1 %", "Keras %", "agreement %", "largest difference"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for item in exported:
        parity = item.parity
        table.add_row(
            str(item.path),
            f"{item.payload_bytes:,}",
            f"{parity.file['top1']:.2f}",
            f"{parity.keras['top1']:.2f}",
            f"{parity.agreement:.2f}",
            f"{parity.largest_difference:.2g}",
        )
    Console().print(table)
