"""The models that ship with the runtime, by name."""

from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError

MODELS = Path(__file__).parent / "models"
DEFAULT_MODEL = MODELS / "resnet8.tflite"


def names() -> tuple[str, ...]:
    """Return the names by which models ship, such as `resnet8`."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.tflite")))


def default_model() -> Path:
    """Find the model that is used unless another is named; EdgecifarError if there is none."""
    if not DEFAULT_MODEL.exists():
        raise EdgecifarError("no model ships with this installation: give a model file")
    return DEFAULT_MODEL


def locate(model: Path | str) -> Path:
    """Return the file that a path or the name of a shipped model stands for.

    A file of that name in the working folder wins; what is neither is returned as it is.
    """
    path = Path(model)
    if path.suffix or path.is_file():
        return path
    shipped = MODELS / f"{path}.tflite"
    return shipped if path.name == str(path) and shipped.is_file() else path
