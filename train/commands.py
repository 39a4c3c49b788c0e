"""The commands `train`, `evaluate` and `models`."""

from pathlib import Path

import click

from edgecifar.train.data.options import data_options


@click.command()
@click.argument("architecture")
@data_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="The run's folder.  [runs/ARCHITECTURE]"
)
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--learning-rate", type=float, help="The highest learning rate.")
@click.option("--ema", type=float, help="Keep an average of the weights with this decay.")
@click.option("--early-stopping", type=int, help="Epochs to wait for a better validation.")
@click.option("--precision", help="auto, float32, bfloat16 or float16.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of a recipe, such as augment.cutout=8; repeat as needed.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard in the run's folder.")
@click.option("--force", is_flag=True, help="Start over if the run exists.")
def train(architecture, out, assignments, seed, tensorboard, force, **options):
    """Train ARCHITECTURE; the same command takes an interrupted run up again."""
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.recipe import Training, override, parse_assignments
    from edgecifar.train.session import train as train_run
    from edgecifar.train.summary import print_run

    source = {key: options.pop(key) for key in ("data", "image_size", "skip_corrupt")}
    given = {key: value for key, value in options.items() if value is not None}
    settings = override(Training(), given | parse_assignments(assignments))
    start_tensorflow()
    run = train_run(
        architecture,
        load(**source),
        settings,
        out or Path("runs") / architecture,
        seed=seed,
        force=force,
        tensorboard=tensorboard,
    )
    print_run(run)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--split", type=click.Choice(["validation", "test"]), default="test", show_default=True
)
def evaluate(run, split, **source):
    """Measure the Keras model of RUN on a split and store the figures in it.

    Choose by validation; read the test images once, at the end.
    """
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.evaluate import evaluate_run
    from edgecifar.train.run import open_run
    from edgecifar.train.summary import describe_accuracy

    start_tensorflow()
    figures = evaluate_run(open_run(run), load(**source), split)
    click.echo(f"{split}: {describe_accuracy(figures)}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(as_json):
    """List the architectures with their size and work for 32x32 images and ten classes."""
    import json

    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.models import catalogue

    start_tensorflow()
    rows = catalogue()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "parameters", "MACs")
    for row in rows:
        table.add_row(row["name"], row["summary"], f"{row['parameters']:,}", f"{row['macs']:,}")
    Console().print(table)
