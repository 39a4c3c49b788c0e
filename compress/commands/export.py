"""The command `export`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import force_option
from edgecifar.train.adopt.options import open_given, run_argument, say
from edgecifar.train.console import plain_console
from edgecifar.train.data.options import data_options

_PRECISIONS = ("int8", "float32", "float16", "dynamic", "int16x8")
_ONNX = {"int8": "onnx-int8", "float32": "onnx"}  # which of them ONNX files come in


@click.command()
@run_argument
@data_options
@click.option("--int8", is_flag=True, help="int8 throughout; with --onnx, an ONNX file of it too.")
@click.option("--float32", is_flag=True, help="float32; with --onnx, an ONNX file of it too.")
@click.option("--float16", is_flag=True, help="Weights in float16.")
@click.option("--dynamic", is_flag=True, help="Large kernels in int8, activations in float32.")
@click.option(
    "--int16x8",
    is_flag=True,
    help="All activations in int16, weights in int8: more exact than int8, far slower on most "
    "devices.",
)
@click.option(
    "--onnx", is_flag=True, help="ONNX files beside int8 and float32 ones; alone, float32 as ONNX."
)
@click.option(
    "--keep-float",
    multiple=True,
    metavar="LAYER",
    help="Leave this layer of int8 files in float; repeatable.",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="Leave few layers in float, so that int8 loses no more validation top-1 than this: the "
    "most sensitive first, each choice measured as TFLite.",
)
@click.option(
    "--calibration",
    type=int,
    metavar="N",
    help="Training images that ranges are taken from.  [default: 500]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the files; RUN/exports, or here for a model that ships.",
)
@force_option
def export(run, pixels, out, force, onnx, keep_float, max_drop, calibration, **options):
    """Write the model of RUN to files for devices, each compared with Keras.

    Files are TFLite, with --onnx ONNX too: `--int8 --onnx` writes an int8 file of either kind. All
    take raw pixels. An operation left in float fails an int8 export and is named, but for the
    layers that --keep-float names or --max-drop finds.
    """
    from edgecifar.compress.export import PartlyExportedError
    from edgecifar.compress.export import export as write
    from edgecifar.compress.int8 import Int8
    from edgecifar.train.backend import start_tensorflow
    from edgecifar.train.progress import progress

    chosen = [name for name in _PRECISIONS if options.pop(name)]
    if not chosen and not onnx:
        known = " ".join(f"--{name}" for name in (*_PRECISIONS, "onnx"))
        raise click.UsageError(f"choose at least one of {known}")
    formats = with_onnx(chosen) if onnx else chosen
    start_tensorflow()
    int8 = Int8(keep_float, max_drop, calibration)
    how = {"folder": out, "force": force, "int8": int8, "report": say}
    opened, dataset = open_given(run, pixels, options)
    try:
        with progress() as bar:
            exported = write(opened, dataset, formats, timed=True, track=bar.track, **how)
    except PartlyExportedError as error:
        _print_exported(error.exported)
        raise
    _print_exported(exported)


def with_onnx(precisions):
    """Add to names of TFLite formats those of the ONNX files that --onnx asks for beside them."""
    beside = [_ONNX[name] for name in precisions if name in _ONNX]
    return [*precisions, *(beside or [_ONNX["float32"]])]


def _print_exported(exported) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        title="against Keras, on the same validation images: size as a share of its weights in "
        "float32, top-1 (%) before and after, answers that are the same (%), mean and largest "
        "difference of a probability",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("file", overflow="fold")  # where all is too wide: names, not figures
    for title in ("bytes", "size", "before", "after", "same", "mean", "largest"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in exported:
        parity = item.parity
        table.add_row(
            item.path.name,
            f"{item.payload_bytes:,}",
            f"{item.payload_bytes / item.keras_bytes:.2f}x",
            f"{parity.keras['top1']:.2f}",
            f"{parity.file['top1']:.2f}",
            f"{parity.agreement:.2f}",
            f"{parity.mean_difference:.1g}",
            f"{parity.largest_difference:.1g}",
        )
    console = plain_console()
    console.print(table)
    for item in exported:
        console.print(f"{item.path}: {item.verdict}", highlight=False, soft_wrap=True)
