"""``export --to web``: a static site that classifies pictures in the browser, and works offline.

The sources are in ``web/``. Any server of static files will do; there is no logic on it.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from importlib.resources import files
from pathlib import Path

from squeezenet.client import Classifier
from squeezenet.errors import UsageError
from squeezenet.export.touch_icon import touch_icon

WEB = (Path(str(files("squeezenet"))) / "_web").resolve()
BUILDS = ("relaxed-threads", "relaxed", "simd-threads", "simd", "plain")
"""Of the runtime, by the instructions that they use. ``setup.py`` makes ``sqz-BUILD.wasm.zlib``:
packed, since not all servers compress what they send."""
_COPIED = ("app.js", "icon.svg", "sqz-thread.js", "sqz-worker.js", "sqz.js", "style.css")
_WASM = tuple(f"sqz-{build}.wasm.zlib" for build in BUILDS)
_TYPES = "sqz.d.ts"
"""For editors: no page loads it."""
_TOUCH_ICON = "touch-icon.png"
"""For iOS, which loads it when the page is added to the home screen."""
WEB_FILES = (*_COPIED, _TYPES, *_WASM, "index.html", "manifest.webmanifest", "model.sqz", "sw.js",
             _TOUCH_ICON)  # fmt: skip
"""The files of the folder."""
_COMMENT = re.compile(r"^\s*(//[^\n]*|/\*.*?\*/)\n", re.MULTILINE | re.DOTALL)
_TITLE = "Image classifier"
"""In the sources; the page has the model's name before it."""


def missing_builds() -> list[str]:
    """Return the files of the runtime that this copy lacks: it was built without Zig."""
    return [file for file in _WASM if not (WEB / file).exists()]


def web_site(data: bytes, name: str) -> dict[str, bytes]:
    """Return the files of a site for the ``.sqz`` file ``data``.

    Raises:
        FloatOnlyError: the file is for float32 alone.
        FormatError: it is not a valid file.
        UsageError: this copy of squeezenet was built without the runtime for the web.
    """
    Classifier(data, kernels="portable")
    missing = missing_builds()
    if missing:
        raise UsageError(
            f"{', '.join(missing)}: missing in this copy of squeezenet; install it again, with "
            "ziglang (pip install ziglang) if pip builds it here"
        )
    title = f"{Path(name).stem}: image classifier"
    manifest = json.loads((WEB / "manifest.webmanifest").read_text())
    manifest["name"] = title
    found = {file: (WEB / file).read_bytes() for file in (*_WASM, _TYPES)}
    found |= {file: _compact(file).encode() for file in _COPIED}
    page = _compact("index.html").replace(f">{_TITLE}<", f">{html.escape(title)}<")
    found["index.html"] = page.encode()
    found["manifest.webmanifest"] = json.dumps(manifest).encode()
    found["model.sqz"] = data
    found[_TOUCH_ICON] = touch_icon()
    version = hashlib.sha256(b"".join(found[file] for file in sorted(found))).hexdigest()[:16]
    found["sw.js"] = _compact("sw.js").replace("VERSION", version).encode()
    return found


def _compact(file: str) -> str:
    """Return a source without comments on lines of their own, and without indentation."""
    lines = _COMMENT.sub("", (WEB / file).read_text()).splitlines()
    return "".join(f"{line.lstrip()}\n" for line in lines if line.strip())
