"""The command `export`."""

from pathlib import Path

import click

from edgecifar.compress.commands.options import force_option, run_argument
from edgecifar.train.data.options import data_options


@click.command()
@run_argument
@data_options
@click.option("--int8", is_flag=True, help="TFLite, int8 throughout.")
@click.option("--float32", is_flag=True, help="TFLite, float32.")
@click.option("--float16", is_flag=True, help="TFLite, weights in float16.")
@click.option("--dynamic", is_flag=True, help="TFLite, weights in int8, activations in float32.")
@click.option("--onnx", is_flag=True, help="ONNX, float32.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files; RUN/exports.")
@force_option
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
