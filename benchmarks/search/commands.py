"""The command `search`."""

import shlex
from dataclasses import replace
from pathlib import Path

import click

from edgecifar.train.adopt.options import say
from edgecifar.train.commands import suited
from edgecifar.train.data.options import data_options, typed
from edgecifar.train.settings import LARGEST_SEED


@click.command()
@data_options
@click.option(
    "--max-latency",
    required=True,
    metavar="TIME|RATIO",
    help="Of the int8 file on --device: 250us, 5ms, or 0.9x for a multiple of --reference.",
)
@click.option("--max-bytes", required=True, type=int, help="Of the int8 file without metadata.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="An int8 .tflite file, or a model that ships, to compare latencies with.  [a ResNet-8]",
)
@click.option(
    "--device",
    default="local",
    show_default=True,
    metavar="DEVICE",
    help="Where latencies are measured: local, local:without-amx, or ssh://[user@]host[:port].",
)
@click.option("--shapes", default=40, show_default=True, help="How many to measure.")
@click.option("--train", "trained", default=8, show_default=True, help="How many to train.")
@click.option(
    "--also",
    multiple=True,
    metavar="SHAPE",
    help="Measure this one too and train it, if it is within the limits: nano, 16-s32r-s48r; "
    "repeat as needed.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="How long to train each.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting that `edgecifar train --help` lists, such as augment.flip=none; repeat as "
    "needed.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/search"),
    show_default=True,
    help="Folder for trials, runs, the result and the drawing of the front.",
)
@click.option("--storage", metavar="URL", help="Database that several machines share.")
@click.option(
    "--take-over", is_flag=True, help="Train what other machines have begun: they are gone."
)
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
def search(
    *,
    max_latency,
    max_bytes,
    reference,
    device,
    shapes,
    trained,
    also,
    epochs,
    assignments,
    out,
    storage,
    take_over,
    seed,
    **source,
):
    """Find the most accurate network within a size and a latency, for your data and your device.

    Shapes of dense convolutions are measured with random weights, which takes seconds each; the
    most promising are trained shortly. The same command goes on after an interruption, and with
    other limits keeps what it has measured. It ends with the commands that train the winner long
    and make an int8 file of it.
    """
    from edgecifar.benchmarks.search.front import draw_front, print_trials
    from edgecifar.benchmarks.search.result import FILE
    from edgecifar.benchmarks.search.search import SHORT, Plan
    from edgecifar.benchmarks.search.search import search as find
    from edgecifar.benchmarks.search.space import Limits, parse_latency
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.models import edgenet
    from edgecifar.train.parsing import override, parse_assignments

    limits = Limits(max_bytes, *parse_latency(max_latency))
    changes = {"epochs": epochs} | parse_assignments(assignments)
    own = tuple(edgenet.find(name) or edgenet.parse(name) for name in also)
    plan = Plan(limits, shapes, trained, override(SHORT, changes), seed, own)
    start_tensorflow()
    dataset = load(**source)
    plan = replace(plan, training=suited(plan.training, changes, dataset))
    found = find(
        plan,
        dataset,
        out,
        reference=reference,
        device=device,
        storage=storage,
        take_over=take_over,
        on_progress=say,
    )
    print_trials(found, limits)
    for path in (*draw_front(found, limits, out), out / FILE):
        click.echo(f"wrote {path}")
    winner = f"{edgenet.PREFIX}{found[0].shape}"
    kept = [text for text in assignments if text.partition("=")[0].strip() != "epochs"]
    settings = "".join(f" --set {shlex.quote(text)}" for text in ("ema=0.999", *kept))
    same = typed(source)
    click.echo("to train the first for long, and to make its int8 file:")
    click.echo(f"  edgecifar train {winner} --epochs 300{settings}{same}")
    click.echo(f"  edgecifar quantize runs/{winner}{same}")
    click.echo(f"  edgecifar export runs/{winner}-qat --int8{same}")
