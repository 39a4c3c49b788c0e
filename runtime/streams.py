"""Standard input as images: one after another, as a camera sends them, or a list of file names."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from edgecifar.runtime.errors import EdgecifarError

LARGEST_IMAGE = 256 << 20  # bytes; more is no image, or one without an end

Mark = tuple[bytes, ...]
"""The first bytes of a format: for each place those that may stand there."""


def _exactly(mark: bytes) -> Mark:
    return tuple(bytes([byte]) for byte in mark)


_SPACE = b" \t\n\v\f\r"
_PADDING = b"\0" + _SPACE  # what cameras leave after an image
_SIZE = (bytes(range(256)),) * 4  # of the file, in any byte
_FILM_MARK = (*_SIZE, *_exactly(b"ftyp"))
# Of images in the boxes of a film: HEIF (ISO/IEC 23008-12) and AVIF.
_IMAGE_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"mif2", b"msf1", b"avif", b"avis"),
}
_NOTES_END, _LONGEST_NAME = b"SEFT", 64  # of what Samsung's phones append
_PNG_MARK = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NEITHER = (
    "standard input is neither images nor file names: send JPEGs or PNGs, "
    "as `rpicam-vid --codec mjpeg -o -` does, or a name a line"
)
# JPEG markers (ITU-T T.81, table B.1): these stand alone, all others have a length.
_ALONE = frozenset([0x01, *range(0xD0, 0xD8)])
_START_OF_IMAGE, _END_OF_IMAGE, _APP2 = 0xD8, 0xD9, 0xE2
_INDEX_MARK, _PICTURES = b"MPF\0", 0xB002  # the tag with an entry for each picture


def read_items(stream: BinaryIO) -> Iterator[bytes | str]:
    """Yield the images in a stream as bytes, or the file names in it, one a line or NUL-ended.

    Images may follow each other without end, as `ffmpeg -f image2pipe` and
    `rpicam-vid --codec mjpeg -o -` write them, with zeros or white space after each, or what
    phones append to a photo; each is given as soon as it is whole. A GIF or a TIFF, which
    don't say how long they are, is the last.

    Raises:
        EdgecifarError: the stream is empty, is neither, breaks off or goes on with
            something else.

    """
    reader = _Reader(stream)
    if not reader.peek(1):
        raise EdgecifarError("standard input is empty: give an image, images or file names")
    if reader.starts_with(*_FORMATS):
        while reader.peek(1):
            yield _one(reader)
            _skip_notes(reader)
            _skip_film(reader)
            reader.skip(_PADDING)
    elif reader.peek(1) == b"\0":
        _refuse_boxed(reader)  # or it is H.264 or MP4: names don't begin so
        raise EdgecifarError(_NEITHER)
    else:
        yield from reader.lines()


def _one(reader: _Reader) -> bytes:
    reader.begin()
    for mark, skip in _FORMATS.items():
        if reader.starts_with(mark):
            skip(reader)
            return reader.taken()
    raise EdgecifarError(
        "standard input goes on with something else after an image: send images only"
    )


def _skip_png(reader: _Reader) -> None:
    """Go past the chunks: length, name, data and checksum each."""
    reader.take(len(_PNG_MARK))
    name = b""
    while name != _PNG_END:
        head = reader.take(8)
        name = head[4:]
        reader.take(int.from_bytes(head[:4], "big") + 4)


def _skip_jpeg(reader: _Reader) -> None:
    """Go past the segments, and past the compressed data, in which 0xFF is followed by 0.

    An image that breaks off ends where the next begins: one lost packet costs one image. The
    pictures that phones append to a photo are part of it if its index lists them.
    """
    reader.take(2)
    appended: list[tuple[int, int]] = []
    while True:
        marker = _next_marker(reader)
        if marker == _END_OF_IMAGE:
            for start, end in sorted(appended):
                _skip_appended(reader, start, end)
            return
        if marker == _START_OF_IMAGE:
            reader.back(2)
            return
        if marker not in _ALONE:
            length = int.from_bytes(reader.take(2), "big")
            segment = reader.take(max(0, length - 2))
            if marker == _APP2 and segment.startswith(_INDEX_MARK):
                before = reader.position - len(segment) + len(_INDEX_MARK)
                appended = [
                    (before + offset, before + offset + size)
                    for offset, size in _indexed(segment[len(_INDEX_MARK) :])
                ]


def _indexed(index: bytes) -> list[tuple[int, int]]:
    """Read an index of pictures (CIPA DC-007, Multi-Picture Format): (offset, size) of each but 1.

    The offsets count from the index, which is laid out as a TIFF. Empty if it is damaged.
    """
    order = {b"II": "<", b"MM": ">"}.get(index[:2])
    try:
        (first,) = struct.unpack_from(f"{order}I", index, 4)
        (count,) = struct.unpack_from(f"{order}H", index, first)
        for number in range(count):
            entry = struct.unpack_from(f"{order}HHII", index, first + 2 + 12 * number)
            if entry[0] == _PICTURES:
                _, _, length, at = entry
                pictures = struct.iter_unpack(f"{order}IIIHH", index[at : at + length])
                return [(offset, size) for _, size, offset, *_ in pictures if offset]
    except struct.error:
        pass
    return []


def _skip_appended(reader: _Reader, start: int, end: int) -> None:
    """Go past a picture at these positions if there is one: copies are often cut short."""
    ahead = end - reader.position
    if reader.position <= start < end <= LARGEST_IMAGE:
        found = reader.peek(ahead)[start - reader.position :]
        whole = len(found) == end - start
        if whole and found.startswith(b"\xff\xd8") and found.rstrip(_PADDING).endswith(b"\xff\xd9"):
            reader.take(ahead)


def _skip_film(reader: _Reader) -> None:
    """Go past the boxes of an MP4 (ISO/IEC 14496-12), if one begins here."""
    _refuse_boxed(reader)
    if not reader.starts_with(_FILM_MARK):
        return
    # A JPEG may look like a box: the length of its first segment is any two bytes.
    while not reader.starts_with(*_FORMATS) and (head := reader.peek(16))[4:8].isalnum():
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size:
            reader.take(max(8, size))
        else:  # to the end
            reader.take_rest()
        reader.begin()


def _skip_notes(reader: _Reader) -> None:
    """Go past what Samsung's phones append: blocks with a name each, and a list that ends them."""
    head = reader.peek(8)
    length = int.from_bytes(head[4:], "little")
    if len(head) < 8 or head[:2] != b"\0\0" or not 0 < length <= _LONGEST_NAME:
        return
    if not reader.peek(8 + length)[8:].replace(b"_", b"").isalnum():
        return
    while reader.peek(len(_NOTES_END)) != _NOTES_END:
        reader.take(1)
        reader.take_through(_NOTES_END[:1])
        reader.back(1)
    reader.take(len(_NOTES_END))
    reader.begin()


def _refuse_boxed(reader: _Reader) -> None:
    """Raise EdgecifarError for an image in an MP4's boxes, which nothing here can decode."""
    if reader.starts_with(_FILM_MARK) and (brand := reader.peek(12)[8:]) in _IMAGE_BRANDS:
        raise EdgecifarError(
            f"standard input holds an image of the kind {brand.decode()}: send JPEGs or PNGs"
        )


def _next_marker(reader: _Reader) -> int:
    while True:
        reader.take_through(b"\xff")
        marker = reader.take(1)[0]
        while marker == 0xFF:  # padding
            marker = reader.take(1)[0]
        if marker:
            return marker


def _skip_bmp(reader: _Reader) -> None:
    reader.take(2)
    size = int.from_bytes(reader.take(4), "little")
    if size:
        reader.take(max(0, size - 6))
    else:  # some writers leave it out, and Pillow doesn't look at it
        reader.take_rest()


def _skip_webp(reader: _Reader) -> None:
    reader.take(4)
    size = int.from_bytes(reader.take(4), "little")
    reader.take(size + size % 2)


def _skip_pnm(reader: _Reader) -> None:
    """Go past the header, which is text, and as many samples as it says."""
    samples = 3 if reader.take(2) == b"P6" else 1
    width, height, highest = (_number(reader) for _ in range(3))
    reader.take(width * height * samples * (2 if highest > 255 else 1))


def _number(reader: _Reader) -> int:
    """Read a decimal number with white space and comments before it, and the byte behind it."""
    digits = b""
    while (byte := reader.take(1)).isdigit() or not digits:
        if byte == b"#":
            reader.take_through(b"\n")
        elif byte.isdigit():
            digits += byte
        elif not byte.isspace():
            raise EdgecifarError("an image on standard input is damaged: send whole ones")
    return int(digits[:10])  # a larger one is more than all images may have


class _Reader:
    """A stream that isn't seekable, of which one image at a time is kept."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._buffer = bytearray()
        self._position = 0

    @property
    def position(self) -> int:
        """Bytes from `begin` to here."""
        return self._position

    def begin(self) -> None:
        """Forget what lies before this position."""
        del self._buffer[: self._position]
        self._position = 0

    def taken(self) -> bytes:
        """All since `begin`."""
        return bytes(self._buffer[: self._position])

    def peek(self, count: int) -> bytes:
        """Up to ``count`` bytes from here, fewer at the end."""
        while len(self._buffer) - self._position < count and self._fill():
            pass
        return bytes(self._buffer[self._position : self._position + count])

    def starts_with(self, *marks: Mark) -> bool:
        """Whether one of the marks stands here.

        It waits for input only while what is there may become one: a file name can be shorter.
        """
        return any(self._is_here(mark) for mark in marks)

    def skip(self, padding: bytes) -> None:
        """Go past all such bytes that come, and forget them."""
        while True:
            self.begin()
            self._buffer = self._buffer.lstrip(padding)
            if self._buffer or not self._fill():
                return

    def take(self, count: int) -> bytes:
        """Go forward by exactly ``count`` bytes."""
        if self._position + count > LARGEST_IMAGE:
            raise EdgecifarError("an image on standard input is damaged or larger than 256 MiB")
        found = self.peek(count)
        if len(found) < count:
            raise EdgecifarError("standard input ends within an image: send whole ones")
        self._position += count
        return found

    def back(self, count: int) -> None:
        """Go back by ``count`` bytes of those taken since `begin`."""
        self._position -= count

    def take_through(self, byte: bytes) -> None:
        """Go forward past the next such byte."""
        while (found := self._buffer.find(byte, self._position)) < 0:
            self._position = len(self._buffer)
            if self._position > LARGEST_IMAGE or not self._fill():
                self.take(1)
        self._position = found + 1

    def take_rest(self) -> None:
        """Go forward to the end, up to LARGEST_IMAGE."""
        while len(self._buffer) <= LARGEST_IMAGE and self._fill():
            pass
        if len(self._buffer) > LARGEST_IMAGE:
            raise EdgecifarError("standard input is larger than 256 MiB: give a smaller image")
        self._position = len(self._buffer)

    def lines(self) -> Iterator[str]:
        """File names as they come; a NUL ends one too, as `find -print0` writes them."""
        while True:
            ends = [at for mark in b"\n\0" if (at := self._buffer.find(mark)) >= 0]
            if not ends:
                if self._fill() and len(self._buffer) <= LARGEST_IMAGE:
                    continue
                ends = [len(self._buffer)]
            name = bytes(self._buffer[: min(ends)]).decode(errors="surrogateescape").strip("\r")
            if _CONTROL.search(name):
                raise EdgecifarError(_NEITHER)
            if name:
                yield name
            if min(ends) == len(self._buffer):
                return
            del self._buffer[: min(ends) + 1]

    def _is_here(self, mark: Mark) -> bool:
        for count, allowed in enumerate(mark, start=1):
            found = self.peek(count)
            if len(found) < count or found[-1] not in allowed:
                return False
        return True

    def _fill(self) -> bool:
        # read1 gives what is there; read would wait for a full block of a live stream.
        read = self._stream.read1 if isinstance(self._stream, io.BufferedReader) else None
        block = read(1 << 16) if read else self._stream.read(1 << 16)
        self._buffer += block
        return bool(block)


# Enough of each to tell it from file names such as BMW.jpg and P6010001.JPG; and how to go past it.
_FORMATS: dict[Mark, Callable[[_Reader], None]] = {
    _exactly(b"\xff\xd8"): _skip_jpeg,
    _exactly(_PNG_MARK): _skip_png,
    (*_exactly(b"BM"), *_SIZE, *_exactly(bytes(4))): _skip_bmp,
    (*_exactly(b"RIFF"), *_SIZE, *_exactly(b"WEBP")): _skip_webp,
    (b"P", b"56", _SPACE, _SPACE + b"#0123456789"): _skip_pnm,
    (*_exactly(b"GIF8"), b"79", b"a"): _Reader.take_rest,
    _exactly(b"II*\0"): _Reader.take_rest,
    _exactly(b"MM\0*"): _Reader.take_rest,
}
