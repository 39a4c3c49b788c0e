"""A .tflite file: a FlatBuffer, and a zip archive appended to it with what it says of itself.

The zip is the convention of TensorFlow Lite's own metadata for associated files; an
interpreter reads offsets from the front and never sees it.
"""

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

IDENTIFIER = b"TFL3"  # bytes 4 to 8, file_identifier in TensorFlow Lite's schema.fbs
_END_OF_ZIP = b"PK\x05\x06"
_START_OF_ENTRY = b"PK\x03\x04\x14\x00"  # with the version: weights won't hold it by chance
_LONGEST_ZIP_TAIL = 22 + 65535  # end record and the longest comment it can have
_LARGEST_ATTACHMENT = 16 << 20
_MOST_ATTACHMENTS = 8  # a model has one or two files of labels
# What altered offsets lead to: an end that isn't there, or further than an address reaches, which
# on a 32-bit system is 2 GiB.
_NOWHERE = (struct.error, OverflowError)
# Field numbers in schema.fbs.
_MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA = 2, 4, 6
_METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 0, 1, 0


def split(
    data: bytes, is_wanted: Callable[[str], bool] = lambda name: True
) -> tuple[bytes, dict[str, bytes]]:
    """Part a file into the FlatBuffer and those attachments that are wanted, by name.

    Raises:
        ValueError: there is an archive and it is damaged, or it holds too much.

    """
    if data.rfind(_END_OF_ZIP, max(0, len(data) - _LONGEST_ZIP_TAIL)) < 0:
        if data.rfind(_START_OF_ENTRY) >= 0:
            raise ValueError("the archive appended to it is truncated")
        return data, {}
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            start = min((entry.header_offset for entry in entries), default=len(data))
            wanted = [entry for entry in entries if is_wanted(entry.filename)]
            if len(wanted) > _MOST_ATTACHMENTS:
                raise ValueError(f"it has more than {_MOST_ATTACHMENTS} attachments")
            return data[:start], {entry.filename: _read(archive, entry) for entry in wanted}
    # On altered bytes zipfile raises what lies below it, too.
    except (
        *(zipfile.BadZipFile, zlib.error, *_NOWHERE),
        *(NotImplementedError, RuntimeError, EOFError, OSError),
    ) as error:
        raise ValueError(f"the archive appended to it is damaged ({error})") from error


def _read(archive: "ZipFile", entry: "ZipInfo") -> bytes:
    """Unpack an attachment, and no more of it than it says it has: a bomb lies about that."""
    import zipfile

    if entry.file_size > _LARGEST_ATTACHMENT:
        raise ValueError("an attachment is larger than 16 MiB")
    # Of the other methods zipfile can't unpack a part.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("an attachment is neither stored nor deflated")
    with archive.open(entry) as stream:
        return stream.read(entry.file_size + 1)  # one more: zipfile checks the CRC at the end


def join(payload: bytes, attachments: dict[str, bytes]) -> bytes:
    """Append attachments to a FlatBuffer, uncompressed; equal input gives equal bytes."""
    import zipfile

    stream = io.BytesIO(payload)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in attachments.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01: the bytes don't depend on now
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def check(payload: bytes) -> None:
    """Check what can be checked in a millisecond: identifier, root, and that all buffers end.

    Raises:
        ValueError: says what is wrong.

    """
    if payload[4:8] != IDENTIFIER:
        raise ValueError("it isn't a TensorFlow Lite model")
    try:
        (root,) = struct.unpack_from("<I", payload)
        if not any(True for _ in _tables(payload, root, _MODEL_SUBGRAPHS)):
            raise ValueError("it holds no graph")
        for buffer in _tables(payload, root, _MODEL_BUFFERS):
            _check_vector_of_bytes(payload, _field(payload, buffer, _BUFFER_DATA))
    except _NOWHERE as error:
        raise ValueError("it is truncated or altered") from error


def least_tensorflow(payload: bytes) -> str | None:
    """Return the TensorFlow version that the converter noted as the oldest with all operators.

    Raises:
        ValueError: the model is altered.

    """
    try:
        (root,) = struct.unpack_from("<I", payload)
        buffers = list(_tables(payload, root, _MODEL_BUFFERS))
        for entry in _tables(payload, root, _MODEL_METADATA):
            if _bytes(payload, _field(payload, entry, _METADATA_NAME)) == b"min_runtime_version":
                field = _field(payload, entry, _METADATA_BUFFER)
                index = struct.unpack_from("<I", payload, field)[0] if field else 0
                content = _bytes(payload, _field(payload, buffers[index], _BUFFER_DATA))
                return content.strip(b"\0").decode("ascii") or None
    except (*_NOWHERE, IndexError) as error:
        raise ValueError("it is altered") from error
    return None


def _bytes(data: bytes, field: int | None) -> bytes:
    """Content of a string or a vector of bytes."""
    if field is None:
        return b""
    vector = field + struct.unpack_from("<I", data, field)[0]
    (length,) = struct.unpack_from("<I", data, vector)
    return data[vector + 4 : vector + 4 + length]


def _field(data: bytes, table: int, number: int) -> int | None:
    """Position of a table's field, or None if it is left at its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise ValueError("it is altered")
    (size,) = struct.unpack_from("<H", data, vtable)
    entry = 4 + 2 * number
    if entry + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", data, vtable + entry)
    return table + offset if offset else None


def _tables(data: bytes, table: int, number: int):
    """Positions of the tables in a field that is a vector of tables."""
    field = _field(data, table, number)
    if field is None:
        return
    vector = field + struct.unpack_from("<I", data, field)[0]
    (length,) = struct.unpack_from("<I", data, vector)
    for position in range(vector + 4, vector + 4 + 4 * length, 4):
        yield position + struct.unpack_from("<I", data, position)[0]


def _check_vector_of_bytes(data: bytes, field: int | None) -> None:
    if field is None:
        return
    vector = field + struct.unpack_from("<I", data, field)[0]
    (length,) = struct.unpack_from("<I", data, vector)
    if vector + 4 + length > len(data):
        raise ValueError(f"it is truncated: {len(data)} of at least {vector + 4 + length} bytes")
