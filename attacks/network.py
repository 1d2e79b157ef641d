"""Attacks by servers that ``fetch`` asks, and by what lies in the folder that it writes to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from attack import Attack

_ENDLESS_MEGABYTES = 300


def attacks() -> list[Attack]:
    """Return all attacks by servers."""
    return [
        Attack(
            name="fetch: endless answer",
            goal="exhaustion of the disk by a server that sends without end",
            defence="a download is broken off at the size of the published file, or at 16 MB",
            make=_served(_endless),
            message="expected at most 16,777,216",
        ),
        Attack(
            name="fetch: length that is no number",
            goal="a crash by a header that is believed",
            defence="what a server says of lengths and ranges is checked",
            make=_served(_bad_length),
            message="Content-Length 'abc', expected a number",
        ),
        Attack(
            name="fetch: redirection to a file",
            goal="reading of a local file by a server that redirects to its URL",
            defence="only http and https are opened, and a redirection never changes the scheme",
            make=_served(_redirection),
            message="file:///etc/hostname",
        ),
        Attack(
            name="fetch: part file that is a link",
            goal="overwriting of another file through a link in the folder of downloads",
            defence="neither part files nor finished files are opened through links",
            make=_linked,
            message="is a symbolic link",
        ),
        Attack(
            name="fetch: other file of the same 8 digits",
            goal="exchange of published weights for others whose hash begins alike",
            defence="the full hash of the first copy is kept and holds from then on",
            make=_exchanged,
            message="SHA-256",
        ),
    ]


def _endless(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(200)
    answer.end_headers()
    for _ in range(_ENDLESS_MEGABYTES):
        answer.wfile.write(bytes(1 << 20))


def _bad_length(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(200)
    answer.send_header("Content-Length", "abc")
    answer.end_headers()
    answer.wfile.write(b"x")


def _redirection(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(302)
    answer.send_header("Location", "file:///etc/hostname")
    answer.end_headers()


def _served(respond: Callable[[BaseHTTPRequestHandler], None]) -> Callable[[Path], list[str]]:
    """Serve on a free port for as long as this program runs, and fetch from there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                respond(self)
            except OSError:  # the client has gone, as it should
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            return None

    def make(folder: Path) -> list[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}"
        return ["fetch", "squeezenet1_1", "--out", str(folder / "cache"), "--mirror", mirror]

    return make


def _linked(folder: Path) -> list[str]:
    from squeezenet.model.published import published

    cache = folder / "cache"
    cache.mkdir()
    (folder / "victim").write_bytes(b"precious")
    name = f"{published('squeezenet1_1').file_name}.part"
    (cache / name).symlink_to(folder / "victim")
    return ["fetch", "squeezenet1_1", "--out", str(cache), "--mirror", "http://127.0.0.1:9"]


def _exchanged(folder: Path) -> list[str]:
    from squeezenet.model.published import published

    cache = folder / "cache"
    cache.mkdir()
    (cache / published("squeezenet1_1").file_name).write_bytes(b"other weights")
    return ["fetch", "squeezenet1_1", "--out", str(cache), "--mirror", "http://127.0.0.1:9"]
