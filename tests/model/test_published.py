"""Fetching against a server of our own: whole, resumed, broken off, wrong, absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from squeezenet.download import cache_folder
from squeezenet.errors import FetchError, UnknownNameError
from squeezenet.model.published import (
    MAX_BYTES,
    PUBLISHED,
    PublishedWeights,
    fetch,
    published,
    published_file,
)
from squeezenet.progress import SilentProgress

CONTENT = bytes(range(256)) * 2000


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``breaks`` responses break off halfway; ``ranges`` were requested."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks = 0
        self.honours_ranges = True
        self.status: int | None = None
        self.ranges: list[str | None] = []
        self.headers: dict[str, str] = {}
        self.location: str | None = None
        self.endless = False
        self.sent_bytes = 0
        self.pause_s = 0.0


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
        if server.location is not None:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.endless:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(300):
                    self.wfile.write(bytes(1 << 20))
                    server.sent_bytes += 1 << 20
            return
        start = 0
        if wanted and server.honours_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(CONTENT) - 1
            sent = server.headers.get("Content-Range", f"bytes {start}-{last}/{len(CONTENT)}")
            self.send_header("Content-Range", sent)
        else:
            self.send_response(200)
        body = CONTENT[start:]
        self.send_header("Content-Length", server.headers.get("Content-Length", str(len(body))))
        time.sleep(server.pause_s)
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
    assert len(server.ranges) == 1 and not list(tmp_path.iterdir())


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
    with pytest.raises(FetchError, match="w.bin: SHA-256 is .*remove it to download it anew, or"):
        published_file("test")
    assert (cached / "w.bin").read_bytes() == b"wrong"  # it may be the user's
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

    def refuse(opener: object, request: object, timeout: float) -> None:
        tried.append("once")
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)
    with pytest.raises(FetchError, match="no connection .no route.; try again later"):
        fetch(published("squeezenet1_1"), tmp_path)
    assert tried == ["once"]


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_the_first_copy_of_a_hash_prefix_holds_from_then_on(server: Server, tmp_path: Path) -> None:
    """8 digits are published: the rest and the size are kept, said once, and checked."""
    short, progress = weights(server, SHA256[:8]), Lines()
    path = fetch(short, tmp_path, progress=progress)
    assert path.read_bytes() == CONTENT
    [line] = progress.lines
    assert SHA256 in line and "8 of 64 digits" in line
    record = tmp_path / "w.bin.first.json"
    assert json.loads(record.read_text()) == {"sha256": SHA256, "bytes": len(CONTENT)}
    fetch(short, tmp_path, progress=progress)
    assert len(progress.lines) == 1 and len(server.ranges) == 1
    # Another file of the same first digits, in place of the first and as a new download.
    record.write_text(json.dumps({"sha256": SHA256[:-1] + "x", "bytes": len(CONTENT)}))
    with pytest.raises(FetchError, match="the first copy had .*remove it to download it anew"):
        fetch(short, tmp_path)
    path.unlink()
    with pytest.raises(FetchError, match="the first copy had .*; removed"):
        fetch(short, tmp_path)
    assert list(tmp_path.iterdir()) == [record]


def test_a_copy_that_was_there_is_kept_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(CONTENT)
    progress = Lines()
    fetch(weights(server, SHA256[:8]), tmp_path, progress=progress)
    assert len(progress.lines) == 1 and not server.ranges
    (tmp_path / "w.bin").write_bytes(CONTENT + b"x")
    with pytest.raises(FetchError, match="SHA-256 is "):
        fetch(weights(server, SHA256[:8]), tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sha256": 1}', "[" * 900, "\xff"])
def test_a_damaged_record_is_one_line(server: Server, tmp_path: Path, text: str) -> None:
    (tmp_path / "w.bin").write_bytes(CONTENT)
    (tmp_path / "w.bin.first.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FetchError, match="w.bin.first.json: is damaged"):
        fetch(weights(server, SHA256[:8]), tmp_path)


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "0x10", "٣", "9" * 30, "5, 6", "+5"])
def test_a_length_that_is_no_number(server: Server, tmp_path: Path, length: str) -> None:
    server.headers["Content-Length"] = length.encode().decode("latin-1")
    with pytest.raises(FetchError, match="Content-Length .*, expected a number"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 15])
def test_a_length_that_is_too_large_is_not_downloaded(
    server: Server, tmp_path: Path, length: str
) -> None:
    server.headers["Content-Length"] = length
    with pytest.raises(FetchError, match=f"expected at most {MAX_BYTES:,}"):
        fetch(weights(server), tmp_path)
    assert not list(tmp_path.iterdir())


def test_lengths_that_lie(server: Server, tmp_path: Path) -> None:
    server.headers["Content-Length"] = str(len(CONTENT) - 1)
    with pytest.raises(FetchError, match="SHA-256 is .*removed"):
        fetch(weights(server), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_endless_answer_is_cut_off(server: Server, tmp_path: Path) -> None:
    server.endless = True
    with pytest.raises(FetchError, match=f"bytes or more, expected at most {MAX_BYTES:,}"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) == 1
    assert not list(tmp_path.iterdir())
    assert server.sent_bytes < 4 * MAX_BYTES


def test_the_limit_of_a_file_is_its_own(server: Server, tmp_path: Path) -> None:
    import dataclasses

    exact = dataclasses.replace(weights(server), max_bytes=len(CONTENT))
    assert fetch(exact, tmp_path / "a").read_bytes() == CONTENT
    small = dataclasses.replace(exact, max_bytes=len(CONTENT) - 1)
    with pytest.raises(FetchError, match=f"expected at most {len(CONTENT) - 1:,}"):
        fetch(small, tmp_path / "b")


@pytest.mark.parametrize(
    "sent", ["", "bytes 0-9/10", "bytes 999-/x", "bytes 1001-511999/512000", "items 1000-2/3", "x"]
)
def test_a_wrong_range_is_not_joined(server: Server, tmp_path: Path, sent: str) -> None:
    """The file is fetched from its start instead."""
    (tmp_path / "w.bin.part").write_bytes(CONTENT[:1000])
    server.headers["Content-Range"] = sent
    assert fetch(weights(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/hostname",
        "https://127.0.0.1:9/w.bin",
        "ftp://127.0.0.1/w.bin",
        "data:,x",
        "x:y",
    ],
)
def test_no_redirection_to_another_scheme(server: Server, tmp_path: Path, location: str) -> None:
    server.location = location
    with pytest.raises(FetchError, match="redirect|not allowed"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) == 1


def test_a_redirection_in_a_circle_ends(server: Server, tmp_path: Path) -> None:
    server.location = "/w.bin"
    with pytest.raises(FetchError, match="the server answered 302"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) < 30


@pytest.mark.parametrize(
    "mirror",
    ["file:///tmp", "ftp://127.0.0.1", "nothing", "http://", "http://a b/", "http://h:x/", "//h",
     "http://h:99999/", "http://[::1", "http://\u0660/"],
)  # fmt: skip
def test_a_mirror_that_is_no_url(server: Server, tmp_path: Path, mirror: str) -> None:
    with pytest.raises(FetchError, match="expected a URL that begins with https:// or http://"):
        fetch(weights(server), tmp_path, mirror=mirror)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX links")
@pytest.mark.parametrize("name", ["w.bin", "w.bin.part", "w.bin.first.json"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "pipe", "folder"])
def test_nothing_is_written_through_links(
    server: Server, tmp_path: Path, name: str, kind: str
) -> None:
    victim, place = tmp_path / "victim", tmp_path / "cache" / name
    place.parent.mkdir()
    if kind != "dangling link":
        victim.write_bytes(b"precious")
    if kind.endswith("link"):
        place.symlink_to(victim)
    elif kind == "second name":
        place.hardlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises((FetchError, IsADirectoryError)):
        fetch(weights(server, SHA256[:8]), tmp_path / "cache")
    if kind == "dangling link":
        assert not victim.exists()
    else:
        assert victim.read_bytes() == b"precious"


def test_eight_at_once(server: Server, tmp_path: Path) -> None:
    """Seven wait for the first, say so once each, and download nothing."""
    server.pause_s = 1.0
    found: list[Path] = []
    progress = Lines()
    threads = [
        threading.Thread(
            target=lambda: found.append(fetch(weights(server), tmp_path, progress=progress))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [tmp_path / "w.bin"] * 8 and found[0].read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [tmp_path / "w.bin"]
    if os.name != "nt":
        assert len(server.ranges) == 1 and len(progress.lines) <= 7


def test_a_full_disk_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the server, so nothing is tried again."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("squeezenet.download.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(weights(server), tmp_path)
    assert len(server.ranges) == 1
