"""The commands `quantize` and `export`."""

from pathlib import Path

import click

from edgecifar.train.data.options import data_options

_RUN = click.argument("run", type=click.Path(path_type=Path))
_FORCE = click.option("--force", is_flag=True, help="Replace what stands there.")


@click.command()
@_RUN
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the new run; RUN-qat.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of fine-tuning.  [default: 8]")
@click.option("--learning-rate", type=float, help="Its highest learning rate.  [default: 0.01]")
@click.option("--seed", type=int, default=0, show_default=True)
@_FORCE
def quantize(run, out, epochs, learning_rate, seed, force, **source):
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
    print_run(fine_tune(parent, load(**source), recipe, out, seed=seed, force=force))


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
