"""Image files of every kind, read as RGB arrays.

Training data and the pictures on a device go through the same two functions here, so that a
model sees on the device what it saw in training.
"""

from __future__ import annotations

import glob
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import numpy as np

from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
"""File name endings, in lower case, by which images in folders and zips are recognised."""

# The others that Pillow knows include EPS, for which it starts Ghostscript without a time limit.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")

MAX_PIXELS = 80_000_000
"""Largest width times height that is decoded: 240 MB as RGB, what a 1 GB device can bear."""

_ORIENTATION_TAG = 0x0112
_WIDE_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_SEE_THROUGH_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
# Pillow fails on damaged files with whatever its format plugin ran into.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
)
# Filters of the warnings module are process-wide. What runs under this lock holds the
# interpreter's own, so that no parallelism is lost.
_filter_lock = threading.Lock()


class ImageError(EdgecifarError):
    """An image file that can't be used; `problem` is its message without the mend."""

    def __init__(self, problem: str, mend: str):
        super().__init__(f"{problem}: {mend}")
        self.problem = problem


def read_image(source: str | Path | bytes | BinaryIO, *, name: str | None = None) -> np.ndarray:
    """Decode one image file to uint8 RGB of shape [height, width, 3], values 0..255.

    Grey, palette, 1-bit, 16-bit (high byte), float (0..1, or 0..255 clipped), CMYK and YCbCr
    images are converted; transparency is composited over white; the EXIF orientation is applied;
    of an animation the first frame is taken. `name` stands for the image in messages.

    Raises ImageError for a missing, damaged or foreign file and for more than MAX_PIXELS pixels.
    """
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else "the image"
    try:
        stream = _stream(source)
    except OSError as error:
        raise ImageError(
            f"{name} can't be read ({error.strerror})", "check the path and its permissions"
        ) from None
    try:
        with _open(stream, name) as image:
            image.load()
            # Pillow itself turns TIFFs as it loads them; older ones leave the tag.
            turned = image.format == "TIFF"
            return _upright(_rgb(image), 1 if turned else _orientation(image))
    except _DECODE_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(f"{name} is truncated or damaged ({reason})", "replace it") from None
    finally:
        if stream is not source:
            stream.close()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a uint8 [H, W, 3] image to [height, width, 3], antialiased bilinear.

    The whole image is kept and its aspect ratio is not: nothing is cropped away.
    """
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    scaled = Image.fromarray(np.ascontiguousarray(image))
    return np.array(scaled.resize((width, height), Image.Resampling.BILINEAR))


def find_images(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield image files: files as they are, folders searched recursively, globs expanded.

    A link to nowhere in a folder is one of them: reading it names the trouble, and the others of
    the folder go on. Raises EdgecifarError for a path that doesn't exist, for a folder or glob
    without images and, after all others, for a folder that can't be listed.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):
            found = _images_below(path)
        elif os.path.exists(path):
            found = iter([path])
        elif not glob.has_magic(str(path)):
            raise EdgecifarError(f"{path} does not exist: check the path")
        else:
            found = (Path(match) for match in sorted(glob.glob(str(path), recursive=True)))
        count = 0
        for count, image in enumerate(found, start=1):  # noqa: B007 (counted for the check below)
            yield image
        if not count:
            raise EdgecifarError(
                f"no images in {path}: give image files or a folder that holds some"
            )


def _images_below(folder: Path) -> Iterator[Path]:
    unread: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_image_name(name) and not _is_special(os.path.join(parent, name)):
                yield Path(parent, name)
    for error in unread:  # after all that can be read
        unreadable(error)


def unreadable(error: OSError) -> NoReturn:
    """Say which folder can't be listed."""
    raise EdgecifarError(f"{error.filename} can't be read ({error.strerror}): check permissions")


def _is_special(path: str) -> bool:
    """Whether it is a pipe, a socket or a device, for which one might wait for ever."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def is_image_name(name: str) -> bool:
    """Whether a file of this name (without folders) counts as an image."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _stream(source: str | Path | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, (str, Path)):
        return open(source, "rb")
    return source


def _open(stream: BinaryIO, name: str) -> PillowImage.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet():
            image = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image", "give a PNG, JPEG, WebP, BMP or GIF") from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(name)
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back Pillow's warnings about sizes and metadata: we say ourselves what matters."""
    with _filter_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large(name: str) -> ImageError:
    limit = f"{MAX_PIXELS // 1_000_000} million pixels"
    return ImageError(f"{name} has more than {limit}", "scale it down first")


def _rgb(image: PillowImage.Image) -> np.ndarray:
    if image.mode in _WIDE_MODES:
        # Pillow scales wide grey formats to 0..65535; the high byte is what RGB files lose too.
        return _three_channels(np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0)
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return _three_channels(np.clip(np.rint(values * scale), 0, 255))
    if image.mode in _SEE_THROUGH_MODES or "transparency" in image.info:
        return _composited(image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _composited(image: PillowImage.Image) -> np.ndarray:
    from PIL import Image

    seen = image.convert("RGBA")
    paper = Image.new("RGBA", seen.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(paper, seen).convert("RGB"))


def _three_channels(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _orientation(image: PillowImage.Image) -> int:
    try:
        with _quiet():
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS:
        return 1  # Broken EXIF data beside sound pixels: take the pixels as they lie.


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation; `orientation` as in EXIF 2.3, 1 to 8, others ignored."""
    if orientation not in range(2, 9):
        return pixels
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation](pixels)
    return np.ascontiguousarray(turned)
