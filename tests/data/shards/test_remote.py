"""Shards from a local server: fetched once, verified, bounded, and every fault in one line."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from squeezenet import download
from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.data.locations import data_name, locate
from squeezenet.data.shards import cache as cache_module
from squeezenet.data.shards import images as images_module
from squeezenet.data.shards import remote
from squeezenet.data.shards.cache import ShardCache
from squeezenet.data.shards.images import ShardImages, open_shard_images
from squeezenet.data.shards.remote import (
    RemoteShards,
    file_url,
    open_remote_head,
    open_remote_index,
    shown_url,
)
from squeezenet.data.sources import open_training_data
from squeezenet.errors import DataError, FetchError, ImageError, UsageError
from squeezenet.images.bad import BadImages
from squeezenet.images.batches import EvalBatches
from tests.data.shards.conftest import MakeShards, open_shards

RECORD = torchvision_preprocessing(resize=8, crop=(8, 8))


class Server(ThreadingHTTPServer):
    """Serves the files of ``folder``. ``faults`` has what to do for a name, and how often."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = Path()
        self.faults: dict[str, tuple[str, int]] = {}
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        return None  # clients that give up


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        return None

    def do_GET(self) -> None:
        name = self.path.lstrip("/").partition("?")[0]
        self.server.asked[name] += 1
        fault, times = self.server.faults.get(name, ("", 0))
        if self.server.asked[name] > times:
            fault = ""
        path = self.server.folder / name
        if fault == "404" or not path.is_file():
            self.send_error(404)
            return
        if fault == "500":
            self.send_error(500)
            return
        body = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if fault == "other bytes":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "long":
            body += b"more"
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if fault == "stall":
            self.wfile.write(body[start : start + min(3000, len(body) // 6)])
            self.wfile.flush()
            time.sleep(2)
            return
        self.wfile.write(body[start:])


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.3)
    monkeypatch.setattr(remote, "_PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(remote, "_POLL_S", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def open_url(server: Server, cache: ShardCache | None = None) -> ShardImages:
    cache = cache or ShardCache()
    index = open_remote_index(server.url, open_remote_head(server.url), cache)
    return open_shard_images(index, RemoteShards(server.url, index.shards, cache))


def test_the_same_images_each_shard_once(
    server: Server, make_shards: MakeShards, tmp_path: Path
) -> None:
    server.folder = make_shards()
    local, images = open_shards(server.folder), open_url(server)
    for _ in range(2):
        for i in range(37):
            np.testing.assert_array_equal(images.pixels(i), local.pixels(i))
    copy = pickle.loads(pickle.dumps(images))
    copy.pixels(36)
    again = open_url(server)
    again.pixels(0)
    assert server.asked.pop("index.json") == 2
    names = ["index.bin", *(shard.name for shard in images.index.shards)]
    assert dict(server.asked) == dict.fromkeys(names, 1)
    files = list((tmp_path / "cache" / "squeezenet" / "shards").iterdir())
    assert {path.suffix for path in files} == {".tar", ".bin"}
    assert images.name(0) == f"{server.url}/{local.name(0).partition('/shards/')[2]}"


def test_a_data_argument(server: Server, make_shards: MakeShards, tmp_path: Path) -> None:
    server.folder = tmp_path / "set"
    make_shards(tmp_path / "set" / "train")
    make_shards(tmp_path / "set" / "val", seed=3)
    data = open_training_data(f"{server.url}/")
    assert (len(data.train), len(data.val), data.class_names) == (37, 37, ("a", "b", "c"))
    same = open_training_data(str(server.folder))
    assert data.fingerprint().summary == same.fingerprint().summary
    unsplit = open_training_data(f"{server.url}/val/index.json", val_fraction=0.2)
    assert (len(unsplit.train), len(unsplit.val)) == (30, 7)
    assert len(locate(f"{server.url}/train").unlabelled()) == 37
    assert server.asked.total() == server.asked["index.json"] + sum(
        server.asked[f"{part}/index.{kind}"]
        for part in ("train", "val", "test")
        for kind in ("json", "bin", "json/index.json")
    )  # no shard was needed for that


@pytest.mark.parametrize(
    ("fault", "times"), [("404", 2), ("500", 3), ("stall", 2), ("short", 0), ("stall", 3)]
)
def test_faults_that_pass_are_not_noticed(
    server: Server, make_shards: MakeShards, fault: str, times: int
) -> None:
    server.folder = make_shards()
    server.faults = {"shard-000001.tar": (fault, times)}
    bad = BadImages(strict=True)
    batches = EvalBatches(open_url(server), RECORD, workers=0, bad=bad)
    assert sum(len(batch.labels) for batch in batches) == 37
    assert server.asked["shard-000001.tar"] == times + 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "the server answered 404 Not Found"),
        ("500", "the server answered 500 Internal Server Error"),
        ("stall", "the download broke off .TimeoutError."),
        ("short", "has [0-9,]+ bytes, expected [0-9,]+"),
        ("long", "the server sends [0-9,]+ bytes or more, expected at most"),
        ("other bytes", "SHA-256 is [0-9a-f]{64}, expected"),
    ],
)
def test_faults_that_stay_are_one_line(
    server: Server, make_shards: MakeShards, fault: str, reason: str
) -> None:
    server.folder = make_shards()
    server.faults = {"shard-000001.tar": (fault, 100)}
    images = open_url(server)
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    batches = EvalBatches(images, RECORD, workers=0, bad=bad)
    lost = images.index.shards[1].num_samples
    assert sum(len(batch.labels) for batch in batches) == 37 - lost
    assert bad.count == lost and len(lines) == 1
    prefix = f"skipped images of {server.url}/shard-000001.tar: cannot be fetched ("
    assert lines[0].startswith(prefix)
    with pytest.raises(ImageError, match=f"{reason}.*; its image [0-9]+ cannot be read"):
        list(EvalBatches(images, RECORD, workers=0, bad=BadImages(strict=True)))
    assert server.asked["shard-000001.tar"] <= 4  # not once per image


def test_a_failed_shard_is_asked_for_again_later(
    server: Server, make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.folder = make_shards()
    server.faults = {"shard-000000.tar": ("404", 3)}
    images = open_url(server)
    with pytest.raises(ImageError):
        images.pixels(0)
    with pytest.raises(ImageError):
        images.pixels(0)
    assert server.asked["shard-000000.tar"] == 3
    monkeypatch.setattr(remote, "_FORGET_FAILURE_S", 0.0)
    images.pixels(0)


def test_a_server_that_is_gone_costs_little(server: Server, make_shards: MakeShards) -> None:
    server.folder = make_shards(shard_bytes=6000)
    images = open_url(server)
    for shard in images.index.shards:
        server.faults[shard.name] = ("stall", 100)
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    with pytest.raises(DataError, match="none of the 37 images could be read"):
        list(EvalBatches(images, RECORD, workers=0, bad=bad))
    assert bad.count == 37 and len(lines) == len(images.index.shards) > 3
    assert "was not asked for, as the server did not answer for others" in lines[-1]
    assert server.asked[images.index.shards[-1].name] == 0


def test_a_cut_file_in_the_cache_is_fetched_again(server: Server, make_shards: MakeShards) -> None:
    server.folder = make_shards()
    images = open_url(server)
    images.pixels(0)
    path = ShardCache().folder / f"{images.index.shards[0].sha256}.tar"
    path.write_bytes(path.read_bytes()[:700])
    open_url(server).pixels(0)
    assert server.asked["shard-000000.tar"] == 2


def test_a_damaged_file_in_the_cache_is_fetched_again(
    server: Server, make_shards: MakeShards
) -> None:
    server.folder = make_shards()
    images = open_url(server)
    images.pixels(0)
    path = ShardCache().folder / f"{images.index.shards[0].sha256}.tar"
    path.write_bytes(bytes(path.stat().st_size))
    images = open_url(server)
    images.pixels(0)
    assert server.asked["shard-000000.tar"] == 2
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ImageError, match="is damaged: bytes differ"):
        images.pixels(1)  # once is enough


@pytest.mark.parametrize("name", ["index.json", "index.bin"])
def test_an_index_that_is_damaged(server: Server, make_shards: MakeShards, name: str) -> None:
    server.folder = make_shards()
    for fault in ("other bytes", "404", "stall", "short"):
        server.faults = {name: (fault, 1000)}
        with pytest.raises((FetchError, DataError), match=name):
            open_url(server)


def test_no_shards_there(server: Server, tmp_path: Path) -> None:
    server.folder = tmp_path
    with pytest.raises(FetchError, match=r"no index.json there, nor in train/, val/, test/"):
        locate(server.url)
    with pytest.raises(FetchError, match="no connection"):
        locate("http://127.0.0.1:9/x")
    with pytest.raises(FetchError, match="expected a URL"):
        locate("http:///x")


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a thread needed the room
        return 0


def test_the_cache_is_bounded(server: Server, make_shards: MakeShards) -> None:
    server.folder = make_shards()
    largest = max(path.stat().st_size for path in server.folder.glob("*.tar"))
    cache = ShardCache(max_bytes=3 * largest)
    images = open_url(server, cache)
    stranger = cache.folder / "mine_.tar"
    stranger.write_bytes(bytes(10 * largest))
    for i in range(37):
        images.pixels(i)
        sizes = [size_of(path) for path in cache.folder.glob("*[0-9a-f].tar")]
        assert sum(sizes) <= cache.max_bytes + largest  # one may be on its way
    last = images.index.shards[-1].sha256
    assert (cache.folder / f"{last}.tar").exists() and stranger.exists()
    assert len(list(cache.folder.glob("*.tar"))) < len(images.index.shards)
    images.reader._descriptors.clear()
    images.pixels(0)  # fetched again
    assert server.asked["shard-000000.tar"] == 2


@pytest.mark.parametrize(("text", "expected"), [("", 32 << 30), ("10M", 10 << 20), ("2g", 2 << 30)])
def test_the_variable(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("SQUEEZENET_SHARD_CACHE", text)
    assert ShardCache().max_bytes == expected
    monkeypatch.setenv("SQUEEZENET_SHARD_CACHE", "much")
    with pytest.raises(UsageError, match="SQUEEZENET_SHARD_CACHE=much, expected a number"):
        ShardCache()


def test_two_readers_fetch_once(server: Server, make_shards: MakeShards) -> None:
    server.folder = make_shards()
    readers = [open_url(server) for _ in range(4)]
    errors: list[BaseException] = []

    def read(images: ShardImages) -> None:
        try:
            for i in range(37):
                images.pixels(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(images,)) for images in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(server.asked[shard.name] == 1 for shard in readers[0].index.shards)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_next_window_is_fetched_ahead(
    server: Server, make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "WINDOW_SHARDS", 2)
    server.folder = make_shards(shard_bytes=6000)
    images = open_url(server)
    num_shards = len(images.index.shards)
    assert num_shards >= 6
    order = images.epoch_order(np.random.default_rng(0)).tolist()
    visited = images.index.shard_of(images.rows[order]).tolist()
    shards = [images.index.shards[k].name for k in dict.fromkeys(visited)]
    time.sleep(0.1)
    assert not any(server.asked[name] for name in shards)  # where the run begins is not known yet
    images.pixels(order[0])
    wait_for(lambda: all(server.asked[name] for name in shards[:4]))
    time.sleep(0.1)
    assert not any(server.asked[name] for name in shards[4:])
    resumed = next(i for i in order if images.index.shards[int(images.index.shard_of(
        images.rows[i]))].name in shards[4:6])  # fmt: skip
    images.pixels(resumed)
    wait_for(lambda: all(server.asked[name] for name in shards[4:8]))
    assert all(count == 1 for name, count in server.asked.items() if name.endswith(".tar"))


def test_evaluation_fetches_the_next_shard_ahead(server: Server, make_shards: MakeShards) -> None:
    server.folder = make_shards()
    images = open_url(server)
    starts = [0, *images.index.ends_S.tolist()]
    images.pixels(starts[0])
    time.sleep(0.1)
    assert not server.asked["shard-000001.tar"]  # one shard says nothing of the next
    images.pixels(starts[1])
    wait_for(lambda: ShardCache().has(f"{images.index.shards[2].sha256}.tar",
                                      images.index.shards[2].num_bytes))  # fmt: skip
    images.pixels(starts[2])
    assert server.asked["shard-000002.tar"] == 1


def test_urls() -> None:
    assert file_url("https://h/a/b/", "x.tar") == "https://h/a/b/x.tar"
    assert file_url("https://h/a?key=1", "x y.tar") == "https://h/a/x%20y.tar?key=1"
    assert shown_url("https://me:secret@h:8/a/?key=1") == "https://h:8/a"
    assert data_name("https://h/sets/image%20net/?key=1") == "image net"
    assert data_name("http://h:80") == "h:80"


def test_a_cache_that_cannot_be_written(
    server: Server, make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.folder = make_shards()
    images = open_url(server)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("squeezenet.download.os.fsync", full)
    with pytest.raises(ImageError, match="No space left on device.*SQUEEZENET_SHARD_CACHE bounds"):
        images.pixels(0)


def test_parts_that_nobody_writes_make_room(
    server: Server, make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.folder = make_shards()
    cache = ShardCache(max_bytes=1)
    images = open_url(server, cache)
    part = cache.folder / f"{'0' * 64}.tar.part"
    part.write_bytes(b"x")
    images.pixels(0)
    assert part.exists()
    with contextlib.suppress(OSError):
        os.utime(part, (0, 0))
    images.pixels(36)
    assert not part.exists() and cache_module._ABANDONED_S > 3600
