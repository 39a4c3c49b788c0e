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
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.quiet import quiet_stderr

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_READ = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".dib", ".gif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".pbm"),
    }
)
# So that what a phone or a camera took isn't left out without a word.
_NOT_READ = frozenset(
    {
        *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".tga", ".psd"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
    }
)
IMAGE_SUFFIXES = _READ | _NOT_READ
"""File name endings, in lower case, by which images in folders and zips are recognised."""

# The others that Pillow knows include EPS, for which it starts Ghostscript without a time limit.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")

MAX_PIXELS = 80_000_000
"""Largest width times height that is decoded; of some kinds of files less.

At the peak 8 bytes a pixel are held: Pillow's four, the result's three, and pieces on their way. So
640 MB is the most that an image takes, or all that are read at once, what a 1 GB device can bear.
"""

_BYTES = 8
# Of these Pillow or its decoder holds more: of WebP canvases before the image, of TIFF a strip that
# may be all of it at 16 bits a channel, of a progressive JPEG the coefficients. Measured.
_MORE_BYTES = {"WEBP": 16, "TIFF": 12, "progressive": 12}
_PIECE_PIXELS = 1 << 18  # converted at a time
_ORIENTATION_TAG = 0x0112
_PHOTOMETRIC_TAG = 0x0106  # of a TIFF: 0 if its white is 0
_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})  # of more than 8 bits
_AS_THEY_ARE = frozenset({("F", "TIFF"), ("I", "TIFF")})  # modes and formats of any values
_LEAST_OF_16_BITS = 1 << 12  # up to here values may be a camera's 10 or 12 bits
_MOST_OF_FRACTIONS, _MOST_OF_8_BITS = 1.1, 260.0  # what filters overshoot by is cut off
_SEE_THROUGH_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
# By orientation as in EXIF 2.3: the upright pixels as a camera stored them, a view.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
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
# What a thread frees in pieces of up to 32 MB glibc keeps for that thread, and Pillow's are of 16:
# each that reads would hold an image for good. Pillow looks here as it is imported.
os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")
# Filters of the warnings module are process-wide. What runs under this lock holds the
# interpreter's own, so that no parallelism is lost, but for TIFFs.
_filter_lock = threading.RLock()
_room, _taken = threading.Condition(), [0]  # bytes of all images that are being read
_TIFF_MARKS = (b"II", b"MM")
# What libtiff, and Pillow's log, write about damage on standard error begins so.
_TIFF_NOISE = (
    *(b"TIFF", b"_TIFF", b"tempfile.tif", b"MissingRequired", b"More samples per pixel"),
    *(b"LZW", b"ZIP", b"JPEG", b"OJPEG", b"Fax", b"PackBits", b"DumpMode", b"PixarLog", b"Thunder"),
)


class ImageError(EdgecifarError):
    """An image file that can't be used; `problem` is its message without the mend."""

    def __init__(self, problem: str, mend: str):
        super().__init__(f"{problem}: {mend}")
        self.problem = problem


def read_image(source: str | Path | bytes | BinaryIO, *, name: str | None = None) -> np.ndarray:
    """Decode one image file to uint8 RGB of shape [height, width, 3], values 0..255.

    Grey, palette, 1-bit, 16-bit (high byte), float (0..1 or 0..255), CMYK and YCbCr images are
    converted; transparency is composited over white; the EXIF orientation is applied; of an
    animation the first frame is taken. `name` stands for the image in messages.

    Raises ImageError for a missing, damaged or foreign file, for more pixels than MAX_PIXELS
    allows, and for grey values of another scale, such as a camera's 12 bits in 16.
    """
    with decoded(source, name=name) as image:
        return image


@contextmanager
def decoded(
    source: str | Path | bytes | BinaryIO, *, name: str | None = None
) -> Iterator[np.ndarray]:
    """Give what `read_image` returns, whose memory counts as taken until the block ends.

    Threads that read wait for each other, where all together would take more than one image may.
    """
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else "the image"
    try:
        stream = _stream(source)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{name} can't be read ({reason})", "check the path and its permissions"
        ) from None
    with ExitStack() as room:
        try:
            pixels = _read(stream, name, room)
        except _DECODE_ERRORS as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ImageError(f"{name} is truncated or damaged ({reason})", "replace it") from None
        finally:
            if stream is not source:
                stream.close()
        yield pixels


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
    """Yield image files: files as they are, folders searched as `walk` does, globs expanded.

    A link to nowhere in a folder is one of them: reading it names the trouble, and the others of
    the folder go on. Raises EdgecifarError for a path that is empty or doesn't exist, for a folder
    or glob without images and, after all others, for a folder that can't be listed.
    """
    for given in paths:
        if not str(given):
            raise EdgecifarError("an empty path: give an image or a folder")
        path = Path(given)
        if os.path.isdir(path):
            found = _images_below(path)
        elif os.path.exists(path):
            found = iter([path])
        elif not glob.has_magic(str(path)):
            raise EdgecifarError(f"{path} does not exist: check the path")
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            found = (
                Path(name) for name in matches if not (os.path.isdir(name) or is_special(name))
            )
        count = 0
        for count, image in enumerate(found, start=1):  # noqa: B007 (counted for the check below)
            yield image
        if not count:
            raise EdgecifarError(
                f"no images in {path}: give image files or a folder that holds some"
            )


def walk(folder: Path, onerror: Callable[[OSError], object]) -> Iterator[tuple[str, list[str]]]:
    """Yield what `walk_files` does, with the names of images alone, and without `is_special`."""
    for parent, names in walk_files(folder, onerror):
        images = filter(is_image_name, names)
        yield parent, [name for name in images if not is_special(os.path.join(parent, name))]


def walk_files(
    folder: Path, onerror: Callable[[OSError], object]
) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder from `folder` downwards with the names of its files, in their order.

    Links to folders are followed, but into no folder twice; hidden folders are left out. `onerror`
    is called for a folder that can't be listed.
    """
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=onerror):
        real = os.path.realpath(parent)
        if real in seen:  # A link back to a folder above would never end.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(files)


def _images_below(folder: Path) -> Iterator[Path]:
    unread: list[OSError] = []
    for parent, names in walk(folder, unread.append):
        yield from (Path(parent, name) for name in names)
    for error in unread:  # after all that can be read
        unreadable(error)


def unreadable(error: OSError) -> NoReturn:
    """Say which folder can't be listed."""
    raise EdgecifarError(f"{error.filename} can't be read ({error.strerror}): check permissions")


def is_special(path: str) -> bool:
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


def _read(stream: BinaryIO, name: str, room: ExitStack) -> np.ndarray:
    with _load(stream, name, room) as image:
        # Pillow itself turns TIFFs as it loads them; older ones leave the tag.
        turned = image.format == "TIFF"
        return _pixels(image, 1 if turned else _orientation(image), name)


def _load(stream: BinaryIO, name: str, room: ExitStack) -> PillowImage.Image:
    from PIL import Image, UnidentifiedImageError

    is_tiff = _is_tiff(stream)
    try:
        with _hushed(is_tiff), _quiet():
            image = Image.open(stream, formats=_FORMATS)
        if image.format == "TIFF":  # as raw files are, with a small preview for an image
            _refuse_unread(name)
        # Nobody may wait for it who holds a lock: that has a thread to take which gives room.
        room.enter_context(_room_for(_needed(image, name)))
        with _hushed(is_tiff):
            image.load()
        return image
    except UnidentifiedImageError:
        _refuse_unread(name)
        raise ImageError(f"{name} is not an image", "give a PNG, JPEG, WebP, BMP or GIF") from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None


def _refuse_unread(name: str) -> None:
    """Raise ImageError if the file's name is that of a kind that isn't read."""
    if (suffix := os.path.splitext(name)[1].lower()) in _NOT_READ:
        told = f"{name} is a {suffix[1:].upper()} file, which isn't read"
        raise ImageError(told, "convert it to JPEG or PNG") from None


def _needed(image: PillowImage.Image, name: str) -> int:
    """Return how many bytes the image takes while it is read; ImageError if too many."""
    needs = _MORE_BYTES.get("progressive" if "progressive" in image.info else image.format, _BYTES)
    most = MAX_PIXELS * _BYTES // needs
    if image.width * image.height > most:
        raise _too_large(name, most)
    return image.width * image.height * needs


@contextmanager
def _room_for(count: int) -> Iterator[None]:
    """Wait until so many bytes fit beside those of images that other threads read."""
    with _room:
        _room.wait_for(lambda: _taken[0] + count <= MAX_PIXELS * _BYTES)
        _taken[0] += count
    try:
        yield
    finally:
        with _room:
            _taken[0] -= count
            _room.notify_all()


def _is_tiff(stream: BinaryIO) -> bool:
    try:
        stream.seek(0)
        mark = stream.read(2)
        stream.seek(0)
    except (AttributeError, OSError):  # a pipe, of which Pillow makes a copy
        return False
    return mark in _TIFF_MARKS


@contextmanager
def _hushed(is_tiff: bool) -> Iterator[None]:
    """Hold back what a damaged TIFF makes others say as it loads, which no other format does."""
    if not is_tiff:
        yield
        return
    with _quiet(), quiet_stderr(*_TIFF_NOISE):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back Pillow's warnings about sizes and metadata: we say ourselves what matters."""
    with _filter_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large(name: str, most: int = MAX_PIXELS) -> ImageError:
    limit = f"{most // 1_000_000} million pixels"
    return ImageError(f"{name} has more than {limit}", "scale it down first")


def _pixels(image: PillowImage.Image, orientation: int, name: str) -> np.ndarray:
    """Return the pixels of a loaded image as RGB, the way up that `orientation` tells.

    A large one is converted piece by piece: as a whole it would be held three times and more.
    """
    width, height = image.size
    pixels = np.empty((width, height, 3) if orientation > 4 else (height, width, 3), np.uint8)
    as_stored = _TURNS[orientation](pixels)
    scale = _grey_scale(image, name) if image.mode in _GREY_MODES else None
    for where, piece in _pieces(image):
        as_stored[where] = _rgb(piece, scale)
    return pixels


def _grey_scale(image: PillowImage.Image, name: str) -> float:
    """Return what the values of an image in one of `_GREY_MODES` are to be multiplied by.

    Raises ImageError if they are neither of fractions nor of 8 or 16 bits: nothing says what white
    is then, and taken for 16 bits they would be nearly black. So it does for a negative, which
    Pillow turns of 8 bits alone.
    """
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC_TAG) == 0:
        raise ImageError(f"{name} is a negative: its white is 0", "save it with black as 0 first")
    values = (_values(piece) for _, piece in _pieces(image))
    brightest = max(float(some[np.isfinite(some)].max(initial=0.0)) for some in values)
    if image.mode == "F" and brightest <= _MOST_OF_FRACTIONS:
        return 255.0
    # Of whole numbers only TIFF has those of 32 bits: others are of 16, whatever Pillow makes.
    if brightest <= _MOST_OF_8_BITS and (image.mode, image.format) in _AS_THEY_ARE:
        return 1.0
    if image.mode != "F" and (brightest == 0.0 or _LEAST_OF_16_BITS <= brightest < 1 << 16):
        return 1 / 256  # the high byte, which is what RGB files keep too
    raise ImageError(
        f"{name} has grey values up to {brightest:g}, of 8 bits or 16 it can't be told",
        "scale them to 8 bits, 0 to 255, first",
    )


def _pieces(
    image: PillowImage.Image,
) -> Iterator[tuple[tuple[slice, slice], PillowImage.Image]]:
    """Yield rows and columns of each piece, and the piece; of a small image all of it."""
    columns = max(1, min(image.width, _PIECE_PIXELS))
    rows = max(1, _PIECE_PIXELS // columns)
    if columns >= image.width and rows >= image.height:
        yield (slice(None), slice(None)), image
        return
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        for left in range(0, image.width, columns):
            right = min(left + columns, image.width)
            yield (slice(top, bottom), slice(left, right)), image.crop((left, top, right, bottom))


def _rgb(image: PillowImage.Image, scale: float | None) -> np.ndarray:
    """Return uint8 [H, W, 3], or [H, W, 1] of `_GREY_MODES`, whose values are scaled."""
    if scale is not None:
        scaled = _values(image) * scale
        scaled = np.floor(scaled) if scale < 1 else np.rint(scaled)
        return np.clip(scaled, 0, 255).astype(np.uint8)[..., None]
    if image.mode in _SEE_THROUGH_MODES or "transparency" in image.info:
        return _composited(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _values(image: PillowImage.Image) -> np.ndarray:
    """Return float64 [H, W], infinite where the image is."""
    values = np.asarray(image).astype(np.float64)
    return np.where(np.isnan(values), 0.0, values)


def _composited(image: PillowImage.Image) -> np.ndarray:
    from PIL import Image

    seen = image.convert("RGBA")
    paper = Image.new("RGBA", seen.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(paper, seen).convert("RGB"))


def _orientation(image: PillowImage.Image) -> int:
    try:
        with _quiet():
            found = int(image.getexif().get(_ORIENTATION_TAG, 1))
            return found if found in _TURNS else 1
    except _DECODE_ERRORS:
        return 1  # Broken EXIF data beside sound pixels: take the pixels as they lie.
