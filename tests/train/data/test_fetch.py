import hashlib
import http.server
import threading

import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data import fetch
from edgecifar.train.data.fetch import Archive, NoDownloadError
from edgecifar.train.files import alone_in

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; may break off, ignore ranges or fail."""

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if server.knows_ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: server.breaks_after.pop(0)] if server.breaks_after else body
        self.wfile.write(sent)

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.ranges, found.breaks_after = [], []
        found.status, found.knows_ranges, found.content = 200, True, CONTENT
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def archive(server):
    url = f"http://127.0.0.1:{server.server_port}/set.tar.gz"
    return Archive("set", url, hashlib.sha256(CONTENT).hexdigest())


def whole(count):
    """What is kept of so many bytes: whole blocks."""
    return count // fetch._BLOCK_BYTES * fetch._BLOCK_BYTES


def test_download_once(archive, server, cache):
    path = fetch.fetch(archive)
    assert path == cache / "downloads" / "set.tar.gz"
    assert path.read_bytes() == CONTENT
    assert fetch.fetch(archive) == fetch.ensure(archive) == path
    assert server.ranges == [None]
    assert [file.name for file in path.parent.glob("[!.]*")] == ["set.tar.gz"]


def test_broken_download_goes_on(archive, server):
    server.breaks_after = [300_000, 700_000 - whole(300_000)]
    assert fetch.fetch(archive).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={whole(300_000)}-", f"bytes={whole(700_000)}-"]


def test_next_run_goes_on(archive, server):
    server.breaks_after = [100_000] * 3
    with pytest.raises(EdgecifarError, match=r"broke off .*: run it again, it goes on"):
        fetch.fetch(archive)
    assert archive.path.with_name("set.tar.gz.part").stat().st_size == 3 * whole(100_000)
    assert not archive.path.exists()
    assert fetch.fetch(archive).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={3 * whole(100_000)}-"


def test_two_downloads_at_once_spoil_nothing(archive, server):
    with (
        alone_in(archive.path.with_name(".set.tar.gz.part-lock")),
        pytest.raises(EdgecifarError, match="another process is at work"),
    ):
        fetch.fetch(archive)
    assert server.ranges == []
    assert fetch.fetch(archive).read_bytes() == CONTENT


def test_server_without_ranges_starts_over(archive, server):
    server.knows_ranges = False
    server.breaks_after = [100_000]
    assert fetch.fetch(archive).read_bytes() == CONTENT


def test_complete_part_is_taken(archive):
    part = archive.path.with_name("set.tar.gz.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert fetch.fetch(archive).read_bytes() == CONTENT


def test_altered_content_is_refused_and_forgotten(archive, server):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(EdgecifarError, match=r"is not the archive that was published .*--url"):
        fetch.fetch(archive)
    assert list(archive.path.parent.glob("[!.]*")) == []
    server.content = CONTENT
    assert fetch.fetch(archive).read_bytes() == CONTENT


def test_altered_archive_is_replaced(archive):
    fetch.fetch(archive).write_bytes(b"altered")
    assert fetch.fetch(archive).read_bytes() == CONTENT


def test_failed_replacement_keeps_what_is_there(archive, server):
    fetch.fetch(archive).write_bytes(b"altered")
    server.status = 503
    with pytest.raises(NoDownloadError, match="answers 503 Service Unavailable"):
        fetch.fetch(archive)
    assert archive.path.read_bytes() == b"altered"


def test_other_place(archive, server):
    elsewhere = Archive("set", "http://127.0.0.1:9/set.tar.gz", archive.sha256)
    with pytest.raises(NoDownloadError, match=r"can't be reached \(ConnectionError\): try again"):
        fetch.fetch(elsewhere)
    assert fetch.fetch(elsewhere, archive.url).read_bytes() == CONTENT


def test_no_download_if_not_wanted(archive, server):
    with pytest.raises(NoDownloadError):
        fetch.ensure(archive, download=False)
    assert server.ranges == []
