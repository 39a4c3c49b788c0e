"""The models that ship with the runtime, by name."""

from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError

MODELS = Path(__file__).parent / "models"
_FAVOURITES = ("small", "nano", "resnet8")  # the first of them that ships is the default


def names() -> tuple[str, ...]:
    """Return the names by which models ship, such as `resnet8`."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.tflite")))


def default_model() -> Path:
    """Find the model that is used unless another is named; EdgecifarError if there is none."""
    for name in _FAVOURITES:
        if name in names():
            return MODELS / f"{name}.tflite"
    raise EdgecifarError("no model ships with this installation: give a model file")


def ships(path: Path) -> bool:
    """Whether this file came with the runtime, as `locate` finds it by name."""
    return path.resolve().parent == MODELS.resolve()


def locate(model: Path | str | None) -> Path:
    """Return the file that a path or the name of a shipped model stands for, None the default.

    A file of that name in the working folder wins; what is neither is returned as it is.
    """
    if model is None:
        return default_model()
    path = Path(model)
    if path.suffix or path.is_file():
        return path
    shipped = MODELS / f"{path}.tflite"
    return shipped if path.name == str(path) and shipped.is_file() else path
