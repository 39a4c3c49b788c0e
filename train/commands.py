"""The commands `train`, `evaluate` and `models`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.options import open_given, run_argument
from edgecifar.train.data.options import data_options
from edgecifar.train.devices import STRATEGIES
from edgecifar.train.parsing import flat
from edgecifar.train.settings import (
    LARGEST_SEED,
    Training,
    for_few_images,
    for_large_images,
    with_wider_crops,
)

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset
    from edgecifar.train.run import Run

_USUAL = Training()
_ANY_SHAPE = (
    "edge-SHAPE is any other shape of dense convolutions, such as edge-16p-s32r-s48r: a number is "
    "a layer's filters, s halves the size, r adds a residual block, p a plain convolution. "
    "`edgecifar search` finds them."
)


class _Train(click.Command):
    """Lists below its options what ARCHITECTURE and --set may be."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of architectures, and all settings with their usual values."""
        from edgecifar.train import models
        from edgecifar.train.transfer import FINE_TUNING, FROM_RUN, HEAD_FROM_RUN, Transfer

        def brought(settings: Training, transfer: Transfer) -> str:
            both = flat({**asdict(settings), "transfer": asdict(transfer)})
            return _typed((key, value) for key, value in both if known.get(key) != value)

        usual = dict(flat(asdict(_USUAL)))
        known = usual | {"transfer.weights": "imagenet", "transfer.backbone_size": None}
        sections = {
            "Architectures": f"{', '.join(models.names())}; `edgecifar models` says what they are. "
            + _ANY_SHAPE,
            "Settings": _typed(usual.items()),
            "Settings that --weights imagenet brings, and a run of such a network": brought(
                FINE_TUNING, Transfer()
            ),
            "Settings that the --weights of another run bring": brought(
                FROM_RUN, Transfer(head=HEAD_FROM_RUN)
            ),
        }
        for title, text in sections.items():
            with formatter.section(title):
                formatter.write_text(text)


def _typed(settings: Iterable[tuple[str, Any]]) -> str:
    return "  ".join(f"{key}={value}" for key, value in settings)


def _setting(name: str, kind: type, text: str) -> Callable:
    """Return the option for a setting."""
    usual = getattr(_USUAL, name)
    option = f"--{name.replace('_', '-')}"
    return click.option(option, type=kind, help=f"{text}  [default: {usual}]")


@click.command(cls=_Train)
@click.argument("architecture", required=False)
@data_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="The run's folder.  [runs/ARCHITECTURE]"
)
@_setting("epochs", int, "Passes over the training images.")
@_setting("batch_size", int, "Images a step.")
@_setting("learning_rate", float, "The highest learning rate.")
@_setting("ema", float, "Keep an average of the weights with this decay; 0 is off.")
@_setting("early_stopping", int, "Epochs to wait for a better validation; 0 is off.")
@_setting("precision", str, "auto, float32, bfloat16 or float16.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting listed below, such as augment.cutout=8; repeat as needed.",
)
@click.option(
    "--weights",
    metavar="imagenet|RUN|PATH|none",
    help="Learn from these weights: first a head, then the last layers of the network with it. "
    "RUN may be the name of a model that ships.",
)
@click.option(
    "--backbone-size",
    type=int,
    help="Enlarge images in a network made for ImageNet to these pixels, a multiple of theirs.  "
    "[default: the first from 96 on]",
)
@click.option(
    "--unfreeze", type=int, help="How many last layers learn with the head.  [default: 50]"
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="none",
    show_default=True,
    help="mirrored divides each batch among all GPUs.",
)
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard in the run's folder.")
@click.option("--force", is_flag=True, help="Start over if the run exists.")
def train(
    architecture,
    out,
    assignments,
    weights,
    backbone_size,
    unfreeze,
    data,
    image_size,
    skip_corrupt,
    **options,
):
    """Train ARCHITECTURE; the same command, without --force, takes up an interrupted run.

    ARCHITECTURE is one of those listed below. Defaults are those without --weights; few or large
    images bring smaller batches at a lower rate, large ones wider crops, and `baseline` its own
    optimizer and rate.

    Training images are mirrored at random: where that makes another class of them, as with digits
    and signs, say --set augment.flip=none.

    With --weights the settings are those of the second phase; --set transfer.head.epochs=10 and
    the like are for the first. The weights of a run bring its architecture and the size of its
    images unless you give them.
    """
    from edgecifar.train import zoo
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.data import load
    from edgecifar.train.parsing import parse_assignments
    from edgecifar.train.summary import print_run
    from edgecifar.train.transfer import source_run

    if source := source_run(weights):
        architecture = architecture or source.info["architecture"]
        image_size = image_size or tuple(source.info["image_size"])
    if not architecture:
        known = ", ".join(zoo.names())
        raise click.UsageError(f"give ARCHITECTURE, or the --weights of a run or of {known}")
    asked = {"weights": weights, "backbone_size": backbone_size, "unfreeze": unfreeze}
    how = {key: options.pop(key) for key in ("seed", "force", "tensorboard", "strategy")}
    changes = _given(options) | parse_assignments(assignments)
    if how["tensorboard"] and not find_spec("tensorboard"):
        raise EdgecifarError("--tensorboard logs for TensorBoard: `pip install tensorboard` first")
    train_run, settings = trainer(architecture, changes, _given(asked))
    start_tensorflow()
    dataset = load(data, image_size=image_size, skip_corrupt=skip_corrupt)
    settings = suited(settings, changes, dataset)
    out = out or Path("runs") / architecture.replace(":", "-")
    print_run(train_run(architecture, dataset, settings, out=out, **how))


def trainer(
    architecture: str, changes: Mapping, asked: Mapping
) -> tuple[Callable[..., "Run"], "Training"]:
    """Return the function that trains, from pretrained weights or without, and its settings.

    `changes` are the user's settings, of which `transfer.KEY` go to those `asked` of transfer.
    """
    from edgecifar.train import models, session, transfer
    from edgecifar.train.parsing import override

    prefix = "transfer."
    own = {key: value for key, value in changes.items() if not key.startswith(prefix)}
    asked = {**asked, **{key[len(prefix) :]: changes[key] for key in changes if key not in own}}
    if not asked:
        return session.train, override(models.find(architecture).settings, own)
    if "weights" not in asked:
        raise click.UsageError(f"to set {' and '.join(sorted(asked))} give --weights too")
    transfer.require_used(asked, own)
    settings, how = transfer.usual(architecture, asked["weights"])
    return partial(transfer.train, transfer=override(how, asked)), override(settings, own)


def suited(settings: "Training", changes: Mapping, dataset: "Dataset") -> "Training":
    """Return `settings` for the number and size of images, told in lines if not the usual ones.

    A batch size and a crop among the user's `changes` stay as they are.
    """
    if "augment.crop" not in changes:
        settings = _with_suited_crops(settings, dataset)
    if "batch_size" not in changes:
        own_rate = "learning_rate" in changes
        settings = _in_suited_batches(settings, dataset, rate_given=own_rate)
    return settings


def _with_suited_crops(settings: "Training", dataset: "Dataset") -> "Training":
    found = with_wider_crops(settings, dataset.image_size)
    if found != settings:
        click.echo(
            f"images{_of_size(dataset)}: crops by up to {found.augment.crop} pixels, unless you "
            "give augment.crop",
            err=True,
        )
    return found


def _in_suited_batches(settings: "Training", dataset: "Dataset", *, rate_given: bool) -> "Training":
    smaller = for_large_images(settings, dataset.image_size, rate_given=rate_given)
    found = for_few_images(smaller, len(dataset.train), rate_given=rate_given)
    if found != settings:
        size = _of_size(dataset) if smaller != settings else ""
        click.echo(
            f"{len(dataset.train):,} training images{size}: batches of {found.batch_size} at a "
            f"rate of up to {found.learning_rate:g}, unless you give batch_size and learning_rate",
            err=True,
        )
    return found


def _of_size(dataset: "Dataset") -> str:
    height, width = dataset.image_size
    return f" of {width}x{height}"


def _given(options: dict) -> dict:
    return {key: value for key, value in options.items() if value is not None}


@click.command()
@run_argument
@data_options
@click.option(
    "--split", type=click.Choice(["validation", "test"]), default="test", show_default=True
)
def evaluate(run, pixels, split, **source):
    """Measure the Keras model of RUN on a split and store the figures in it.

    Choose by validation; read the test images once, at the end.
    """
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.evaluate import evaluate_run
    from edgecifar.train.summary import describe_accuracy

    start_tensorflow()
    opened, dataset = open_given(run, pixels, source)
    figures = evaluate_run(opened, dataset, split)
    click.echo(f"{split}: {describe_accuracy(figures)}")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(names, as_json):
    """List the models that ship and all architectures, or those of NAMES.

    edge-SHAPE is an architecture too, such as edge-16p-s32r-s48r: `edgecifar search` finds them.

    Architectures are counted for 32x32 images and ten classes, those made for ImageNet as
    --weights builds them, with the images enlarged.
    """
    import json

    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.zoo import listing

    start_tensorflow()
    shipped, rows = listing.shipped_rows(names), listing.architecture_rows(names)
    if as_json:
        found = {"shipped": list(shipped), "architectures": list(rows)}
        click.echo(json.dumps(found, indent=2))
        return
    listing.print_shipped(shipped)
    listing.print_architectures(rows)
    if not names:
        click.echo(f"\n{click.wrap_text(_ANY_SHAPE)}")
