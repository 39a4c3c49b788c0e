"""Frozen dataclasses from plain values, such as TOML's: what does not fit is named."""

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgecifar.runtime.errors import EdgecifarError

T = TypeVar("T")


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass `kind` from plain values, naming the key of any that does not fit.

    Nested dataclasses are built from nested mappings; keys that are left out keep their defaults.
    `where` is the dotted path that error messages put before a key.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in mapping.items():
        if key not in hints:
            raise EdgecifarError(f"unknown setting {where}{key}{did_you_mean(key, hints)}")
        values[key] = _convert(hints[key], value, f"{where}{key}")
    try:
        return kind(**values)
    except TypeError as error:  # a field without a default was left out
        raise EdgecifarError(f"{where or kind.__name__}: {error}") from error


def override(settings: T, assignments: Mapping[str, Any]) -> T:
    """Return `settings` with dotted keys such as `augment.flip` replaced."""
    tree = dataclasses.asdict(settings)
    for dotted, value in assignments.items():
        *parents, leaf = dotted.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent)
            if not isinstance(node, dict):
                raise EdgecifarError(f"unknown setting {dotted}{did_you_mean(dotted, tree)}")
        node[leaf] = value
    return from_mapping(type(settings), tree)


def completed(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a dataclass's values were stored as, with defaults for settings that are newer.

    They come back as they are if `kind` lacks one of them today.
    """
    try:
        return dataclasses.asdict(from_mapping(kind, stored))
    except EdgecifarError:
        return dict(stored)


def flat(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings under dotted keys, as --set takes them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def parse_assignments(texts: tuple[str, ...]) -> dict[str, Any]:
    """Parse `key=value` texts, with values as TOML writes them, other numbers and bare words."""
    assignments = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise EdgecifarError(f"{text!r} is not of the form key=value")
        assignments[key.strip()] = _toml_value(value.strip())
    return assignments


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """Return a clause that names the nearest of `known`, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(names)}"


def read_toml(text: str, *, where: str) -> dict[str, Any]:
    """Parse TOML, with the file's name in the one-line error."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EdgecifarError(f"{where} is not valid TOML: {error}") from error


def load_toml(path: Path, *, where: str = "") -> dict[str, Any]:
    """Read a TOML file, called `where` or by its own name in the one-line error."""
    where = where or path.name
    try:
        return read_toml(path.read_text(encoding="utf-8"), where=where)
    except UnicodeDecodeError as error:
        raise EdgecifarError(f"{where} is not in UTF-8: save it in that encoding") from error


def _toml_value(text: str) -> Any:
    with contextlib.suppress(EdgecifarError):
        return read_toml(f"value = {text}", where="value")["value"]
    try:
        return float(text)  # such as .1 and 1., which are none in TOML
    except ValueError:
        return text


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check a plain value against a type hint; int is accepted for float, as TOML users expect."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return from_mapping(hint, value, where=f"{where}.")
        raise EdgecifarError(f"{where} is a table of settings, not {value!r}")
    if origin is Literal:
        choices = typing.get_args(hint)
        require(value in choices, where, value, "one of " + ", ".join(map(str, choices)))
        return value
    if origin in (types.UnionType, typing.Union):
        inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return None if value is None else _convert(inner[0], value, where)
    if origin is tuple:
        require(isinstance(value, list | tuple), where, value, "a list")
        return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    require(
        type(value) is hint,
        where,
        value,
        {int: "a whole number", str: "a text", float: "a number", bool: "true or false"}[hint],
    )
    return value


def require(condition: bool, key: str, value: Any, expected: str) -> None:
    """Raise EdgecifarError, which says what the value of `key` must be, unless it is so."""
    if not condition:
        raise EdgecifarError(f"{key} is {value!r}: it must be {expected}")
