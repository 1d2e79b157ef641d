"""Fetching against a server of our own: whole, resumed, broken off, wrong, absent."""

from __future__ import annotations

import hashlib
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from squeezenet.errors import FetchError, UnknownNameError
from squeezenet.model.published import (
    PUBLISHED,
    PublishedWeights,
    cache_folder,
    fetch,
    published,
    published_file,
)

CONTENT = bytes(range(256)) * 2000


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``breaks`` responses break off halfway; ``ranges`` are requested."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks = 0
        self.honours_ranges = True
        self.status: int | None = None
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        return None

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        if server.status is not None:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.honours_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        body = CONTENT[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def weights(server: Server, sha256: str | None = None) -> PublishedWeights:
    return PublishedWeights(
        url=f"http://127.0.0.1:{server.server_port}/w.bin",
        sha256=sha256 or hashlib.sha256(CONTENT).hexdigest(),
        file_name="w.bin",
        about="test",
    )


def test_fetch_and_find_again(server: Server, tmp_path: Path) -> None:
    path = fetch(weights(server), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    fetch(weights(server), tmp_path / "cache")
    assert server.ranges == [None]  # the second call asked nothing
    assert list((tmp_path / "cache").iterdir()) == [path]


def test_a_hash_prefix_is_enough(server: Server, tmp_path: Path) -> None:
    prefix = hashlib.sha256(CONTENT).hexdigest()[:8]
    assert fetch(weights(server, prefix), tmp_path).read_bytes() == CONTENT


def test_broken_downloads_are_continued(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    assert fetch(weights(server), tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_what_an_earlier_call_left_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(weights(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.honours_ranges = False
    (tmp_path / "w.bin.part").write_bytes(b"x" * 1000)
    assert fetch(weights(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.bin.part").write_bytes(CONTENT)
    assert fetch(weights(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_is_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="expected it to begin deadbeef"):
        fetch(weights(server, "deadbeef"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_gives_up_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.breaks = 100
    with pytest.raises(FetchError, match="broke off.*bytes are kept to resume"):
        fetch(weights(server), tmp_path)
    server.breaks = 0
    assert fetch(weights(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_refused(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(FetchError, match=f"the server answered {status}"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) == 1


def test_mirror(server: Server, tmp_path: Path) -> None:
    elsewhere = PublishedWeights(
        url="http://127.0.0.1:9/none", sha256=weights(server).sha256, file_name="w.bin", about=""
    )
    mirror = f"http://127.0.0.1:{server.server_port}/files/"
    assert fetch(elsewhere, tmp_path, mirror=mirror).read_bytes() == CONTENT


def test_no_connection(tmp_path: Path) -> None:
    nowhere = PublishedWeights(
        url="http://127.0.0.1:9/w.bin", sha256="0", file_name="w.bin", about=""
    )
    with pytest.raises(FetchError, match="no connection"):
        fetch(nowhere, tmp_path)


def test_registry() -> None:
    assert published("squeezenet1_1").url.endswith("squeezenet1_1-b8a52dc0.pth")
    assert all(item.url.startswith("https://") for item in PUBLISHED.values())
    with pytest.raises(UnknownNameError, match="no published weights 'x'; expected one of"):
        published("x")


@pytest.fixture
def cached(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``test`` is published by the server; the user's cache is empty."""
    monkeypatch.setitem(PUBLISHED, "test", weights(server))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "squeezenet"


def test_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "squeezenet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "squeezenet"


def test_published_weights_are_downloaded_once(server: Server, cached: Path) -> None:
    path = published_file("test")
    assert path == cached / "w.bin" and path.read_bytes() == CONTENT
    server.status = 500  # nobody asks again
    assert published_file("test") == path and server.ranges == [None]
    with pytest.raises(UnknownNameError, match="expected one of squeezenet1_0"):
        published_file("nothing")


def test_without_a_connection_the_place_of_the_file_is_said(server: Server, cached: Path) -> None:
    server.status = 404
    sha256 = PUBLISHED["test"].sha256[:8]
    with pytest.raises(FetchError) as raised:
        published_file("test")
    assert str(raised.value).endswith(
        f"; try again later, or put w.bin (SHA-256 {sha256}...) into {cached}, or name a model "
        "file of your own with --from FILE"
    )
    # A file that a user put there is taken, once it is the right one.
    (cached / "w.bin").write_bytes(b"wrong")
    with pytest.raises(FetchError, match=f"{cached} .the file there has another SHA-256., or name"):
        published_file("test")
    (cached / "w.bin").write_bytes(CONTENT)
    assert published_file("test") == cached / "w.bin"


def test_a_server_with_an_internal_error_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(FetchError, match="the server answered 503"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) == 4


def test_a_failed_connection_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(request: object, timeout: float) -> None:
        tried.append("once")
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("squeezenet.model.published.urllib.request.urlopen", refuse)
    with pytest.raises(FetchError, match="no connection .no route.; try again later"):
        fetch(published("squeezenet1_1"), tmp_path)
    assert tried == ["once"]
