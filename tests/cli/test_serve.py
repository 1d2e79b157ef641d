"""``serve`` and its server: the files of a page, and errors in one line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import encode
from squeezenet.export.server import FileServer
from squeezenet.export.web import missing_builds
from tests.conftest import random_model, squeezenet

needs_web = pytest.mark.skipif(bool(missing_builds()), reason="built without Zig")


@pytest.fixture
def server() -> Iterator[FileServer]:
    files = {"index.html": b"<html>", "a.wasm": b"\0asm", "a.mjs": b"export {}"}
    with FileServer(files, host="127.0.0.1", port=0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_files_have_their_types_and_nothing_else_is_there(server: FileServer) -> None:
    status, headers, body = ask(server.url)
    assert (status, body) == (200, b"<html>") and headers["Content-Type"].startswith("text/html")
    assert ask(f"{server.url}a.wasm")[1]["Content-Type"] == "application/wasm"
    assert ask(f"{server.url}a.mjs?x=1")[1]["Content-Type"].startswith("text/javascript")
    for name in ("b.js", "../index.html", "%2e%2e/etc/passwd", "/etc/passwd"):
        assert ask(server.url + name)[0] == 404


def test_what_the_browser_has_is_not_sent_again(server: FileServer) -> None:
    tag = ask(server.url)[1]["ETag"]
    assert ask(server.url, **{"If-None-Match": tag})[0] == 304
    assert ask(server.url, **{"If-None-Match": '"other"'})[2] == b"<html>"
    status, headers, body = ask(server.url, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "6", b"")


@needs_web
def test_it_runs_until_ctrl_c() -> None:
    command = [sys.executable, "-m", "squeezenet", "serve", "default", "--port", "0", "--no-open"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert b"squeezenet" in ask(f"{url}sw.js")[2]
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr


@needs_web
def test_wrong_use_is_one_line(tmp_path: Path, tiny_record: ModelRecord) -> None:
    (tmp_path / "float.sqz").write_bytes(encode(random_model(tiny_record)))
    (tmp_path / "text.sqz").write_text("no model")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, expected in (
            ([tmp_path / "float.sqz"], "for float32 alone"),
            ([tmp_path / "text.sqz"], "text.sqz"),
            (["default", "--port", "70000"], "--port 70000: expected 0 to 65535"),
            (["default", "--port", port], f"127.0.0.1:{port}: "),
            (["default", "--host", "no.such.host.invalid"], "no.such.host.invalid"),
        ):
            done = squeezenet("serve", *arguments, "--no-open")
            assert done.returncode in (1, 2), done.stderr
            [line] = done.stderr.strip().splitlines()
            assert line.startswith("squeezenet: ") and expected in line
