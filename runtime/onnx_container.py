"""An .onnx file: a ModelProto, with what it says of itself in metadata_props.

Concatenated protobuf messages merge, so metadata is written by appending fields and read
by walking over the top-level fields: neither needs the onnx package.
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _OPSET_IMPORT, _METADATA_PROPS = 7, 8, 14  # ModelProto's field numbers in onnx.proto
_DOMAIN, _VERSION = 1, 2  # OperatorSetIdProto's
_KEY, _VALUE = 1, 2  # StringStringEntryProto's
_DATA_LOCATION, _EXTERNAL = 14, 1  # TensorProto's
# What may hold tensors, by the message and field that holds it: graphs, nodes and what is in them.
_HOLDERS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def split(data: bytes, names: frozenset[str]) -> tuple[bytes, dict[str, bytes]]:
    """Part a file into the model and the attachments among ``names`` that were appended to it.

    Raises:
        ValueError: the bytes aren't a whole protobuf message.

    """
    fields = list(_fields(data, 0, len(data)))
    end, attachments = len(data), {}
    for number, start, value, stop in reversed(fields):
        if number != _METADATA_PROPS:
            break
        entry = {key: data[a:b] for key, _, a, b in _fields(data, value, stop)}
        name = entry.get(_KEY, b"").decode("utf-8", "replace")
        if name not in names:
            break
        end, attachments[name] = start, entry.get(_VALUE, b"")
    return data[:end], attachments


def join(payload: bytes, attachments: dict[str, bytes]) -> bytes:
    """Append attachments to a model as metadata_props."""
    entries = (
        _bytes(_KEY, name.encode()) + _bytes(_VALUE, content)
        for name, content in attachments.items()
    )
    return payload + b"".join(_bytes(_METADATA_PROPS, entry) for entry in entries)


def check(payload: bytes) -> None:
    """Raise ValueError unless the bytes are a model's top-level fields, and hold all its weights.

    Weights in another file are covered by no checksum, and would be read from the working folder.
    """
    if not any(number == _GRAPH for number, *_ in _fields(payload, 0, len(payload))):
        raise ValueError("it holds no graph")
    # The key by which a tensor says where its data lie: most models needn't be searched for one.
    if b"location" in payload and _leads_elsewhere(payload):
        raise ValueError(
            "its weights lie in another file, where `external_data=False` would keep them inside"
        )


def opset(payload: bytes) -> int | None:
    """Return the version of ONNX's own operators that the model uses; ValueError if broken."""
    for number, _, value, stop in _fields(payload, 0, len(payload)):
        if number == _OPSET_IMPORT:
            entry = {key: (a, b) for key, _, a, b in _fields(payload, value, stop)}
            domain = payload[slice(*entry.get(_DOMAIN, (0, 0)))]
            if domain in (b"", b"ai.onnx") and _VERSION in entry:
                return _varint(payload, *entry[_VERSION])[0]
    return None


def _leads_elsewhere(payload: bytes) -> bool:
    """Whether a tensor of the model has its data in another file."""
    left = [("model", 0, len(payload))]
    while left:
        kind, start, end = left.pop()
        for number, _, value, stop in _fields(payload, start, end):
            if kind == "tensor" and number == _DATA_LOCATION:
                if _varint(payload, value, stop)[0] == _EXTERNAL:
                    return True
            elif held := _HOLDERS[kind].get(number):
                left.append((held, value, stop))
    return False


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, start, start of the value and end of each field; ValueError if broken."""
    while position < end:
        start = position
        tag, position = _varint(data, position, end)
        kind, value = tag & 7, position
        if kind == _VARINT:
            _, position = _varint(data, position, end)
        elif kind == _BYTES:
            length, value = _varint(data, position, end)
            position = value + length
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("it isn't an ONNX model")
        if not tag >> 3:  # nor is a file of zeros, which an interrupted copy leaves
            raise ValueError("it isn't an ONNX model")
        if position > end:
            raise ValueError("it is truncated, or it isn't an ONNX model")
        yield tag >> 3, start, value, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("it is truncated, or it isn't an ONNX model")


def _bytes(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(content)) + content


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
