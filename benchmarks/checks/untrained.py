"""Write an architecture with random weights as a model file, to learn what it costs on a device.

    python -m edgecifar.benchmarks.checks.untrained efficientnetv2b0 --image-size 224 --format int8

Neither size nor latency depends on what the weights are, so that a network can be measured before
anything is spent on its training, or beside one that is never trained here.
"""

from pathlib import Path

import click
import numpy as np

from edgecifar.benchmarks.program import Program
from edgecifar.runtime import modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_whole

_CLASSES = 10
_NOISE = 4  # images: the ranges that they calibrate decide nothing here


def write_untrained(
    architecture: str,
    out: Path,
    *,
    image_size: int = 32,
    classes: int = _CLASSES,
    kind: str = "float32",
) -> Path:
    """Write `architecture` for square images of `image_size` pixels in the format `kind`.

    Its description says that it is untrained. Raises EdgecifarError if the architecture is unknown
    or `out` is there already.
    """
    from edgecifar.compress.formats import FORMATS
    from edgecifar.train import models
    from edgecifar.train.backend import start_tensorflow

    if out.exists():
        raise EdgecifarError(f"{out} exists: give another --out")
    start_tensorflow()
    model = models.find(architecture).build((image_size, image_size), classes)
    shape = (_NOISE, image_size, image_size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    form = FORMATS[kind]
    described = {"name": out.stem, "architecture": architecture, "weights": "untrained"}

    def write(partial: Path) -> None:
        partial.write_bytes(form.convert(model, noise))
        modelfile.append(partial, described | {"input": {"encoding": form.encoding}}, None)

    write_whole(out, write)
    return out


@click.command(cls=Program)
@click.argument("architecture")
@click.option("--image-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--classes", type=click.IntRange(2), default=_CLASSES, show_default=True)
@click.option("--format", "kind", default="float32", show_default=True, help="As `export` has it.")
@click.option("--out", type=click.Path(path_type=Path), help="By default ARCHITECTURE-SIZE-FORMAT.")
def main(architecture: str, image_size: int, classes: int, kind: str, out: Path | None):
    """Write ARCHITECTURE with random weights as a model file."""
    from edgecifar.compress.formats import FORMATS

    if kind not in FORMATS:
        raise click.BadParameter(f"{kind!r} is not one of {', '.join(FORMATS)}")
    out = out or Path(f"{architecture}-{image_size}-{kind}{FORMATS[kind].suffix}")
    write_untrained(architecture, out, image_size=image_size, classes=classes, kind=kind)
    click.echo(f"wrote {out}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
