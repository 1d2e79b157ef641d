"""Download one file over HTTP into a part file that resumes, with a limit on its size.

What a server says is not believed: lengths, ranges and redirections are checked. The part file is
never a link, and one process at a time writes it. A file gets its final name only when its content
is the expected one. Standard library only.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal
from urllib.parse import urlsplit

from squeezenet.errors import FetchError
from squeezenet.files import NotRegularFileError, open_regular, sync_folder
from squeezenet.progress import Progress

_SCHEMES = ("http", "https")
_CHUNK_BYTES = 1 << 16
_ATTEMPTS = 4
"""For downloads that broke off and servers with an internal error. A refusal or a failed connection
is tried again only where the caller waits for it."""
_TIMEOUT_S = 30
_MAX_DIGITS = 15


class _BrokenOffError(Exception):
    """The download broke off; another attempt may help."""


class _RefusedError(Exception):
    """Another attempt right away cannot help. ``status`` is what the server answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def cache_folder() -> Path:
    """Return the user's cache for downloaded files; ``XDG_CACHE_HOME`` moves it."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "squeezenet"


def require_http(url: str) -> None:
    """Refuse what is no URL of a web server.

    Raises:
        FetchError: says what was found.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not (valid and url.isascii() and url.isprintable() and " " not in url):
        raise FetchError(f"{url}: expected a URL that begins with https:// or http://, in ASCII")


def fetch_file(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    is_there: Callable[[], bool],
    fault: Callable[[BinaryIO], str | None],
    progress: Progress,
    pauses_s: Sequence[float] = (),
) -> None:
    """Download a file to ``target`` unless ``is_there`` says that it is there.

    ``fault`` returns what is wrong with a content, or None. Processes that want the same file wait
    for the one that downloads it. ``pauses_s``: see ``download``.

    Raises:
        FetchError: see ``download``; or the content is not the expected one, and was removed.
        OSError: the folder of ``target`` cannot be written.
    """
    part_path = target.with_name(target.name + ".part")
    with locked_part(part_path, progress) as part:
        if is_there():  # another process has just brought it
            part_path.unlink()
            return
        try:
            download(url, part, target.name, max_bytes, progress, pauses_s)
        except FetchError:
            if not part.seek(0, os.SEEK_END):
                part_path.unlink()
            raise
        part.seek(0)
        found = fault(part)
        if found is not None:
            part_path.unlink()
            raise FetchError(f"{url}: {found}; removed, try again", status=200)
        if os.name == "nt":  # where an open file keeps its name
            part.close()
        part_path.replace(target)
    sync_folder(target.parent)


def download(
    url: str,
    part: BinaryIO,
    name: str,
    max_bytes: int,
    progress: Progress,
    pauses_s: Sequence[float] = (),
) -> None:
    """Fetch the bytes that ``part`` lacks; ``name`` is for the display.

    ``pauses_s``: after a refusal or a failed connection, wait so many seconds and try again.

    Raises:
        FetchError: no connection, a server's refusal, or more than ``max_bytes``.
        OSError: ``part`` cannot be written.
    """
    num_broken, pauses = 0, iter(pauses_s)
    while True:
        try:
            _attempt(url, part, name, max_bytes, progress)
            return
        except (_BrokenOffError, _RefusedError) as error:
            if isinstance(error, _BrokenOffError):
                num_broken += 1
                if num_broken < _ATTEMPTS:
                    continue
            elif (pause := next(pauses, None)) is not None:
                time.sleep(pause)
                continue
            kept = part.seek(0, os.SEEK_END)
            resumes = f"; {kept} bytes are kept to resume" if kept else ""
            raise FetchError(
                f"{url}: {error}{resumes}; try again later", getattr(error, "status", None)
            ) from None


def _attempt(url: str, part: BinaryIO, name: str, max_bytes: int, progress: Progress) -> None:
    have = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "squeezenet"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    response = _open(request, have)
    if response is None:  # no bytes after those that we have: the hash decides
        return
    with response:
        resumed = _is_rest(response, have, part)
        if not resumed:
            have = 0
            part.seek(0)
            part.truncate()
        length = _length(response)
        _require_size(have + (length or 0), max_bytes, part)
        total = have + (length or 0)
        with progress.task(f"fetch {name}", total=total, unit="B", done=have) as task:
            for chunk in _chunks(response):
                have += len(chunk)
                _require_size(have, max_bytes, part)
                part.write(chunk)
                task.advance(len(chunk))
        part.flush()
        os.fsync(part.fileno())
    if length is not None and have < total:
        raise _BrokenOffError(f"the download broke off {total - have} bytes before its end")


def _open(request: urllib.request.Request, have: int) -> Any:
    """Send a request; None: the server has nothing after the ``have`` bytes."""
    try:
        return _opener().open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code == 416 and have:
            return None
        said = f"the server answered {error.code} {error.reason}"
        if error.code >= 500:
            raise _BrokenOffError(said) from None
        raise _RefusedError(said, error.code) from None
    except urllib.error.URLError as error:
        raise _RefusedError(f"no connection ({error.reason})") from None
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenOffError(f"the download broke off ({type(error).__name__})") from None
    except ValueError as error:  # a URL or a header that cannot be
        raise _RefusedError(f"no connection ({error})") from None


def _opener() -> urllib.request.OpenerDirector:
    """What opens URLs of web servers, and nothing else: no files, no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _SameScheme,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPSHandler,
    ):
        opener.add_handler(handler())
    return opener


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirection, but never to another scheme."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        expected = urlsplit(req.full_url).scheme
        if urlsplit(newurl).scheme != expected:
            fp.close()
            raise _RefusedError(
                f"the server redirects to {newurl}, expected {expected}:// as in the URL"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_rest(response: Any, have: int, part: BinaryIO) -> bool:
    """Whether an answer goes on after the ``have`` bytes, rather than starts anew."""
    if response.status == 200:
        return False
    if response.status != 206:
        raise _RefusedError(f"the server answered {response.status}, expected 200 or 206")
    sent = response.headers.get("Content-Range", "")
    first = re.fullmatch(rf"bytes ([0-9]{{1,{_MAX_DIGITS}}})-[0-9]+/([0-9]+|\*)", sent.strip())
    if have and first is not None and int(first.group(1)) == have:
        return True
    part.seek(0)
    part.truncate()  # so that the next attempt asks for all of it
    kind = _BrokenOffError if have else _RefusedError
    raise kind(f"the server sent the range {sent[:80]!r}, asked for from byte {have}")


def _length(response: Any) -> int | None:
    """Return the bytes that an answer says it has.

    Raises:
        _RefusedError: the header is no number, or there are several.
    """
    found = response.headers.get_all("Content-Length", [])
    if not found:
        return None
    text = found[0].strip()
    if len(set(found)) > 1 or not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        shown = ", ".join(found)[:80]
        raise _RefusedError(f"the server sent the Content-Length {shown!r}, expected a number")
    return int(text)


def _require_size(num_bytes: int, max_bytes: int, part: BinaryIO) -> None:
    if num_bytes > max_bytes:
        part.seek(0)
        part.truncate()
        raise _RefusedError(
            f"the server sends {num_bytes:,} bytes or more, expected at most {max_bytes:,}; "
            "it is not the expected file"
        )


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise _BrokenOffError(f"the download broke off ({type(error).__name__})") from None
        if not chunk:
            return
        yield chunk


def open_own(path: Path, mode: Literal["rb", "r+b"] = "rb") -> BinaryIO:
    """Open a file of the folder of downloads, never through a link.

    Raises:
        FetchError: it is a link, a folder, a pipe or the like.
        OSError: it is missing, or cannot be opened.
    """
    try:
        return open_regular(path, mode)
    except NotRegularFileError as error:
        raise FetchError(
            f"{path}: {error.strerror}, expected a regular file; remove it and try again"
        ) from None


@contextlib.contextmanager
def locked_part(path: Path, progress: Progress) -> Iterator[BinaryIO]:
    """Open the part file of a download for this process alone, after the last bytes it has.

    Another process that has it is waited for. Where a system has no locks, there are none.

    Raises:
        FetchError: ``path`` is a link, no regular file, or another user's.
    """
    is_said = False  # once, however often the file is replaced meanwhile
    while True:
        part = open_own(path, "r+b")
        if not _lock(part, wait=False):
            if not is_said:
                progress.log(f"{path}: another process is downloading it, waiting")
            is_said = True
            _lock(part, wait=True)
        own = os.fstat(part.fileno())
        try:  # whoever had it may have given it its final name, or removed it
            if os.path.samestat(own, path.stat(follow_symlinks=False)):
                break
        except FileNotFoundError:
            pass
        part.close()
    with part:
        user = os.geteuid() if hasattr(os, "geteuid") else own.st_uid
        if own.st_uid != user or own.st_nlink > 1:
            raise FetchError(
                f"{path}: is another user's, or has a second name; remove it and try again"
            )
        yield part


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock a file for this process alone; False where another one has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True
