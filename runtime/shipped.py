"""The models that ship with the runtime, by name."""

from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError

MODELS = Path(__file__).parent / "models"
_FAVOURITES = ("small", "nano", "resnet8")  # the first of them that ships is the default


def names() -> tuple[str, ...]:
    """Return the names by which models ship, such as `resnet8`."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.tflite")))


def listed() -> str:
    """Return the names of the models that ship, for a message or a help text."""
    return ", ".join(names()) or "none"


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

    The name may end in `.tflite`. A file of that name in the working folder wins.

    Raises:
        EdgecifarError: it is neither.

    """
    if model is None:
        return default_model()
    if not str(model):
        raise EdgecifarError("an empty path: give a model file")
    path = Path(model)
    if path.is_file():
        return path
    shipped = MODELS / f"{path.name.removesuffix('.tflite')}.tflite"
    if path.name == str(path) and shipped.is_file():
        return shipped
    if path.exists():  # what is no file is told when it is read
        return path
    raise EdgecifarError(
        f"{path}: no such model file: check the path, or name a model that ships ({listed()})"
    )
