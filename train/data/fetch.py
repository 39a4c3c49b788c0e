"""The official archives, downloaded once into the cache folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder
from edgecifar.train.data.progress import reporting
from edgecifar.train.files import alone_in

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60
_ATTEMPTS = 3
_BLOCK_BYTES = 1 << 15  # What a broken transfer loses at most.


@dataclass(frozen=True)
class Archive:
    """A file on the net and its SHA-256 (hex)."""

    name: str
    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it lies once downloaded."""
        return cache_folder() / "downloads" / self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "cifar10": Archive(
        "cifar10",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    "cifar100": Archive(
        "cifar100",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
}
"""The archives that `edgecifar data fetch` knows, by name."""


class NoDownloadError(EdgecifarError):
    """The archive isn't here and can't be had now; `problem` is the message without the mend."""

    def __init__(self, problem: str):
        super().__init__(
            f"{problem}: try again later, or another place with `edgecifar data fetch --url`"
        )
        self.problem = problem


def ensure(archive: Archive, *, download: bool = True) -> Path:
    """Return the path of the archive, downloading it if it isn't there."""
    if archive.path.exists():
        return archive.path
    if not download:
        raise NoDownloadError(f"no download of {archive.name} was asked for")
    return fetch(archive)


def fetch(archive: Archive, url: str | None = None) -> Path:
    """Return the path of the archive with the published content.

    An archive that is there is checked, and replaced only by one that is right; a download that
    broke off goes on where it stopped. `url` is another place with the same file. Raises
    NoDownloadError if nothing can be reached, and EdgecifarError if the transfer breaks off or
    the content has another checksum, or while another process downloads it.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    path, url = archive.path, url or archive.url
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.retrieve(
            url,
            f"sha256:{archive.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=_resuming(path.with_name(f"{path.name}.part")),
        )
    except ValueError:  # pooch's word for a checksum that differs
        raise EdgecifarError(
            f"{url} is not the archive that was published (its SHA-256 differs): try again, "
            "or another --url"
        ) from None
    return path


def _resuming(part: Path) -> Callable[[str, str, object], None]:
    """Return a downloader for pooch that goes on where an earlier one broke off."""

    def download(url: str, output: str, _: object) -> None:
        place = part.with_name(f".{part.name}-lock")  # two would append to the same file
        with alone_in(place), reporting(f"Downloading {part.stem}") as report:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    _transfer(url, part, report)
                    break
                except ConnectionError as error:
                    if attempt == _ATTEMPTS:
                        raise EdgecifarError(
                            f"the download of {url} broke off ({error}): run it again, "
                            "it goes on where it stopped"
                        ) from None
        os.replace(part, output)

    return download


def _transfer(url: str, part: Path, report: Callable[[int, int], None]) -> None:
    """Append what is missing to `part`; ConnectionError if the transfer breaks off."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        answer = requests.get(
            url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS)
        )
    except requests.RequestException as error:
        raise NoDownloadError(f"{url} can't be reached ({type(error).__name__})") from None
    with answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # Nothing is missing; the checksum decides.
        if not answer.ok:
            raise NoDownloadError(f"{url} answers {answer.status_code} {answer.reason}")
        resumed = answer.status_code == requests.codes.partial_content
        done = done if resumed else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        with open(part, "ab" if resumed else "wb") as file:
            try:
                for block in answer.iter_content(_BLOCK_BYTES):
                    done += file.write(block)
                    report(done, total)
            except requests.RequestException as error:
                raise ConnectionError(type(error).__name__) from None
    if done < total:
        raise ConnectionError(f"{done} of {total} bytes")
