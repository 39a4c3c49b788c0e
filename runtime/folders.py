"""Class folders: which labelled images a folder or a zip archive holds.

Recognised are one set (`cat/1.png`, `dog/2.png`), parts (`train/cat/1.png`, `test/cat/2.png`,
optionally `validation/`), and a folder with `train.zip` and `test.zip`; any of them inside
wrapping folders. Images in folders below a class folder belong to that class; where all classes
have the same folders below them, only a `train` above them tells that they are the classes.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import ImageError, is_image_name, unreadable, walk, walk_files

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without
    LZMAError = zlib.error

WHOLE = "all"
"""Name of the only part of a data set that isn't divided into train and test."""

PART_NAMES = {
    "train": "train",
    "training": "train",
    "train_set": "train",
    "training_set": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "val_set": "validation",
    "valid_set": "validation",
    "validation_set": "validation",
    "test": "test",
    "testing": "test",
    "test_set": "test",
}
"""Folder and zip names, in lower case, and the part of a data set that each stands for."""

# What Python raises for members that are cut, encrypted, packed in ways it doesn't know, or huge.
DAMAGED = (
    *(OSError, EOFError, RuntimeError, MemoryError, struct.error),
    *(zipfile.BadZipFile, zlib.error, LZMAError),
)
_MAX_FILE_BYTES = 512 << 20
# Folders that operating systems and network disks put beside one's own.
_NOT_OURS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled image: the class it lies in, and where its bytes are."""

    label: str
    name: str
    container: Path
    member: str | None = None


@dataclass(frozen=True, slots=True)
class _File:
    parts: tuple[str, ...]
    container: Path
    member: str | None = None

    @property
    def name(self) -> str:
        if self.member is None:
            return str(self.container)
        return f"{self.container.name}: {self.member}"


@dataclass(frozen=True, slots=True)
class _Tree:
    """The images of a folder or zip, and its folders, be there images in them or not."""

    files: list[_File] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)

    def without_wrappers(self) -> _Tree:
        """Drop folders that hold all images, down to the parts or the classes."""
        files, wrapper = self.files, ()
        while files and all(len(file.parts) > 2 for file in files):
            top = files[0].parts[0]
            if top.lower() in PART_NAMES or any(file.parts[0] != top for file in files):
                break
            files = [replace(file, parts=file.parts[1:]) for file in files]
            wrapper += (top,)
        depth = len(wrapper)
        within = {folder[depth:] for folder in self.folders if folder[:depth] == wrapper}
        return _Tree(files, within)


class EntryReader:
    """Reads the bytes of entries; keeps each zip open once; threads may share it."""

    def __init__(self):
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> EntryReader:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    def open_zips(self, entries: Iterable[Entry]) -> None:
        """Open the archives that the entries lie in (from one thread, before reading)."""
        for path in {entry.container for entry in entries if entry.member is not None}:
            self._archives[path] = open_zip(path)

    def read(self, entry: Entry) -> bytes:
        """Return the file's bytes; ImageError if they can't be had or fail the zip's CRC."""
        try:
            if entry.member is None:
                return entry.container.read_bytes()
            return self._archives[entry.container].read(entry.member)
        except DAMAGED as error:
            raise ImageError(
                f"{entry.name} is truncated or damaged ({error})", "replace it"
            ) from None


def named_after(path: Path) -> str:
    """Return the name of what lies at `path`, as UTF-8: a folder's keeps what follows a dot."""
    path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return name.encode(errors="backslashreplace").decode()


def scan(path: Path) -> dict[str, tuple[Entry, ...]]:
    """Find the labelled images of a folder or zip.

    Returns the entries of each part: "train", "validation" and "test" as far as they are there,
    or WHOLE alone. No image is opened. Raises EdgecifarError if there are no images, if one lies
    outside of a class folder, if a class folder has none, if it can't be told which folders are the
    classes, and for a zip that is damaged, encrypted or has unsafe paths.
    """
    if not path.exists():
        raise EdgecifarError(f"{path} does not exist: check the path")
    if path.is_file():
        return _arrange(_members(path), path)
    archives = _part_archives(path)
    if not archives:
        return _arrange(_walk(path), path)
    if beside := next((file for file in _walk(path).files if len(file.parts) > 1), None):
        raise EdgecifarError(
            f"{path} holds {next(iter(archives.values())).name}, and images in "
            f"{beside.parts[0]}: move one of them away"
        )
    return {part: _single_part(archive) for part, archive in archives.items()}


def class_names(parts: dict[str, tuple[Entry, ...]], path: Path) -> tuple[str, ...]:
    """Return the classes in their order (numbers by value, else alphabetical).

    Raises EdgecifarError if parts disagree about them, there are fewer than two, or one has a name
    that can't be used.
    """
    names = {part: {entry.label for entry in entries} for part, entries in parts.items()}
    first, *others = names
    for other in others:
        for a, b in ((first, other), (other, first)):
            if missing := sorted(names[a] - names[b]):
                raise EdgecifarError(
                    f"class {missing[0]} is in {a} and not in {b} of {path}: "
                    "give both parts the same class folders"
                )
    if len(names[first]) < 2:
        raise EdgecifarError(
            f"{path} has only one class ({next(iter(names[first]))}): "
            "a classifier needs a folder for each of two or more"
        )
    require_usable(sorted(names[first]), path)
    numbers = all(name.isdecimal() for name in names[first])
    return tuple(sorted(names[first], key=(lambda name: (int(name), name)) if numbers else None))


def require_usable(classes: Sequence[str], source: Path) -> None:
    """Raise EdgecifarError for class names that a model's file couldn't hold or tell apart."""
    for number, name in enumerate(classes):
        if name != name.strip() or name.splitlines() != [name]:
            problem = "is empty, or has line breaks or outer spaces"
        elif name in classes[:number]:
            problem = "is that of two classes"
        elif _is_no_text(name):
            problem = "isn't text in UTF-8"
        else:
            continue
        raise EdgecifarError(f"{source}: the class name {name!r} {problem}: rename the class")


def _is_no_text(name: str) -> bool:
    """Whether it holds bytes that aren't UTF-8, as Python reads them from a file system."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive; EdgecifarError if it isn't a whole one."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise EdgecifarError(
            f"{path} is not a whole zip archive ({error}): copy or download it again"
        ) from None
    except OSError as error:
        raise EdgecifarError(
            f"{path} can't be read ({error.strerror or error}): check its permissions"
        ) from None


def _part_archives(folder: Path) -> dict[str, Path]:
    if any((folder / name).is_dir() for name in PART_NAMES):
        return {}  # they are unpacked
    found = {}
    for child in sorted(folder.iterdir()):
        part = PART_NAMES.get(child.stem.lower() if child.suffix.lower() == ".zip" else "")
        if part and child.is_file():
            if part in found:
                raise EdgecifarError(
                    f"{folder} has its {part} images twice, as {found[part].name} and as "
                    f"{child.name}: leave one there"
                )
            found[part] = child
    return found


def _single_part(archive: Path) -> tuple[Entry, ...]:
    parts = _arrange(_members(archive), archive)
    if len(parts) > 1:
        raise EdgecifarError(
            f"{archive} holds {' and '.join(parts)}: give that file itself, not its folder"
        )
    return next(iter(parts.values()))


def results_in(folder: Path) -> set[tuple[str, ...]]:
    """Return where commands have left runs in `folder`, as parts of paths: they are no classes.

    A folder `runs` is that as a whole.
    """
    found = set()
    for parent, names in walk_files(folder, unreadable):
        below = Path(parent).relative_to(folder).parts
        if not below or "run.json" not in names:
            continue
        if b'"architecture"' in Path(parent, "run.json").read_bytes():
            found.add(below[: below.index("runs") + 1] if "runs" in below else below)
    return found


def is_among(below: tuple[str, ...], results: set[tuple[str, ...]]) -> bool:
    """Tell whether a folder is one of `results_in`, or lies in one."""
    return any(below[: len(one)] == one for one in results)


def _walk(folder: Path) -> _Tree:
    tree, results = _Tree(), results_in(folder)
    for parent, names in walk(folder, unreadable):
        below = Path(parent).relative_to(folder).parts
        if not _NOT_OURS.isdisjoint(below) or is_among(below, results):
            continue
        if names or not any(one[: len(below)] == below for one in results):
            tree.folders.add(below)
        tree.files.extend(_File((*below, name), Path(parent, name)) for name in names)
    return tree


def _members(path: Path) -> _Tree:
    tree = _Tree()
    with open_zip(path) as archive:
        for info in archive.infolist():
            name = info.filename.replace("\\", "/")
            parts = tuple(part for part in name.split("/") if part not in ("", "."))
            if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
                raise EdgecifarError(
                    f"{path} has a path that leads out of the archive ({info.filename}): "
                    "don't trust it, get it from its source again"
                )
            folder = parts if info.is_dir() else parts[:-1]
            if any(part in _NOT_OURS or part.startswith(".") for part in folder):
                continue
            tree.folders.add(folder)
            if parts != folder and is_image_name(parts[-1]):
                _check_member(path, info)
                tree.files.append(_File(parts, path, info.filename))
    return tree


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        raise EdgecifarError(f"{path} is encrypted: unpack it and give the folder")
    if info.file_size > _MAX_FILE_BYTES:
        raise EdgecifarError(
            f"{path}: {info.filename} unpacks to {info.file_size >> 20} MiB, "
            f"more than {_MAX_FILE_BYTES >> 20}: remove it from the archive"
        )


def _arrange(found: _Tree, source: Path) -> dict[str, tuple[Entry, ...]]:
    tree = found.without_wrappers()
    if not tree.files:
        raise EdgecifarError(f"no images in {source}: {_hint(source)}")
    parts = _part_folders(tree.files)
    if not parts:
        _require_classes_on_top(tree.files, source)
    arranged: dict[str, list[Entry]] = {}
    for file in tree.files:
        part, below = _within(file.parts, parts)
        if part is None:
            raise EdgecifarError(
                f"{file.name} lies outside of {' and '.join(sorted(parts))}: move or remove it"
            )
        if len(below) < 2:
            raise EdgecifarError(
                f"{file.name} lies in no class folder: put every image into a folder "
                "named after its class"
            )
        arranged.setdefault(part, []).append(
            Entry(below[0], file.name, file.container, file.member)
        )
    filled = {(part, entry.label) for part, entries in arranged.items() for entry in entries}
    for folder in sorted(tree.folders):
        part, below = _within(folder, parts)
        if part and below and (part, below[0]) not in filled:
            raise EdgecifarError(
                f"the class folder {'/'.join(folder[: 2 if parts else 1])} of {source} has no "
                "images: put some into it, as JPEG or PNG, or remove it"
            )
    return {part: tuple(arranged[part]) for part in sorted(arranged)}


def _within(path: tuple[str, ...], parts: dict[str, str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the part of the set that a path is in, None if in none, and the path below it."""
    return (parts.get(path[0]) if path else None, path[1:]) if parts else (WHOLE, path)


def _part_folders(files: list[_File]) -> dict[str, str]:
    """Map the top folders that are parts of the set to their part; {} if it has none.

    A part holds class folders: `train` full of images, beside `plane`, is a class. Two parts that
    do are parts whatever else stands beside them.
    """
    tops = {file.parts[0] for file in files}
    flat = {file.parts[0] for file in files if len(file.parts) < 3}
    named = {top: PART_NAMES[top.lower()] for top in tops if top.lower() in PART_NAMES}
    only_parts = set(named) == tops and not flat
    filled = {part for top, part in named.items() if top not in flat}
    several = len(filled) > 1 or {"train", "test"} <= set(named.values())
    return named if only_parts or several else {}


def _require_classes_on_top(files: list[_File], source: Path) -> None:
    """Raise EdgecifarError where all top folders hold folders of the same names, and no images.

    Those are the classes, most likely, and the folders above them parts of the set.
    """
    tops: dict[str, list[_File]] = {}
    for file in files:
        if len(file.parts) < 3:
            return
        tops.setdefault(file.parts[0], []).append(replace(file, parts=file.parts[1:]))
    inner = {top: _Tree(within).without_wrappers().files for top, within in tops.items()}
    below = {top: {file.parts[0] for file in within} for top, within in inner.items()}
    first, *others = below.values()
    if len(first) > 1 and others and all(names == first for names in others):
        above, names = (" and ".join(sorted(found)[:2]) for found in (below, first))
        raise EdgecifarError(
            f"{above} of {source} hold the same folders ({names}): if those are the classes, call "
            "the folders above them train and test; if not, put all into a folder called train"
        )


def _hint(source: Path) -> str:
    if source.is_dir():
        archives = sorted(
            child.name for child in source.iterdir() if child.suffix in (".zip", ".npz", ".gz")
        )
        if archives:
            return f"it holds {archives[0]}; give the path of that file"
    return "give a folder or zip with a folder of images for each class"
