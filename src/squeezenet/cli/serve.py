"""``squeezenet serve``: the page of ``export --to web``, opened on this machine."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.cli.options import model_argument
from squeezenet.codec.model_kinds import ModelKind, model_kind
from squeezenet.errors import UsageError
from squeezenet.export.server import FileServer
from squeezenet.export.web import web_site


def serve(
    model: Annotated[
        Path,
        Parameter(converter=model_argument, help="A .sqz file, or the word default."),
    ],
    /,
    *,
    port: Annotated[int, Parameter(help="0 takes any free one.")] = 8000,
    host: Annotated[
        str, Parameter(help="Address to listen at; others reach the page at 0.0.0.0.")
    ] = "127.0.0.1",
    open_browser: Annotated[bool, Parameter(name="--open", help="Open the browser.")] = True,
) -> None:
    """Open a page that classifies pictures with a .sqz in the browser; Ctrl-C ends it."""
    if model_kind(model) is not ModelKind.SQZ:
        raise UsageError(f"{model}: not a .sqz file; squeezenet compress makes one")
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port {port}: expected 0 to 65535")
    site = web_site(model.read_bytes(), model.name)
    try:
        server = FileServer(site, host=host, port=port)
    except OSError as error:
        raise UsageError(f"{host}:{port}: {error.strerror}; try another --port or --host") from None
    with server:
        print(server.url, flush=True)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)
        if open_browser:
            webbrowser.open(server.url)
        server.serve_forever()
