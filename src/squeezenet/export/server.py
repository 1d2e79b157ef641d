"""Serves the files of an export from memory, to try a page on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
"""By ending; the browser asks for the right ones."""
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class FileServer(ThreadingHTTPServer):
    """Answers GET for the names in ``files``; ``/`` is ``index.html``. ``port`` 0 is any free one.

    Raises:
        OSError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], *, host: str, port: int) -> None:
        self.files = files
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        name = self.path.partition("?")[0].removeprefix("/") or "index.html"
        body = self.server.files.get(name)
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == tag:  # the browser has it
            body, status = b"", HTTPStatus.NOT_MODIFIED
        else:
            status = HTTPStatus.OK
        self.send_response(status)
        kind = _TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
        if status is HTTPStatus.OK:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        for header, value in {"ETag": tag, **_HEADERS}.items():
            self.send_header(header, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return None
