"""A folder of results, such as a report: only what squeezenet wrote in it is ever replaced.

The file ``SHA256SUMS`` says which files those are, in the form of ``sha256sum --check``. A file
that has changed since, by hand or by another program, is no longer ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from squeezenet.errors import UsageError
from squeezenet.files import (
    is_leftover,
    make_folder,
    remove_leftovers,
    write_bytes_atomically,
)
from squeezenet.folder_lock import LOCK, FolderLock

SUMS = "SHA256SUMS"
_MARK = "# Written by squeezenet, which replaces these files if they have not changed since."
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")
_MAX_SUMS_BYTES = 1 << 16


class OutputFolder:
    """The folder ``path``, new, empty or ours.

    ``is_ours``: the folder is known to be ours by its place. Files of an earlier version, without
    ``SHA256SUMS``, are then replaced too.
    """

    def __init__(self, path: Path, *, is_ours: bool = False) -> None:
        self.path = path
        self._is_ours = is_ours

    def check(self, names: Sequence[str]) -> None:
        """Refuse a folder in which files of these names cannot be written; change nothing.

        Raises:
            UsageError: it is a file or a link, it is not ours, or one of the files is not.
        """
        path = self.path
        if path.is_symlink():
            raise UsageError(f"{path}: is a symbolic link, expected the folder itself")
        if not path.exists():
            return
        if not path.is_dir():
            raise UsageError(f"{path}: is a file, expected a folder")
        found = {entry.name for entry in path.iterdir()}
        if all(name == LOCK or is_leftover(name) for name in found):
            return
        known = self._known()
        if known is None and not self._is_ours:
            raise UsageError(
                f"{path}: exists already, expected a new or empty folder, or one that squeezenet "
                "wrote for the same purpose"
            )
        for name in (*names, SUMS):
            file = path / name
            if file.is_symlink() or (file.exists() and not file.is_file()):
                raise UsageError(
                    f"{file}: is a link or a folder, expected a file; choose another --out"
                )
            if name == SUMS or name not in found or known is None:
                continue
            if hashlib.sha256(file.read_bytes()).hexdigest() not in known.get(name, ()):
                raise UsageError(
                    f"{file}: was written or changed by somebody else and would be replaced; "
                    "rename it or choose another --out"
                )

    def write(self, files: Mapping[str, bytes]) -> list[Path]:
        """Write the files in their order, each atomically; return their paths.

        Raises:
            UsageError: see ``check``.
            CheckpointError: another process writes in the folder, or it cannot be written.
        """
        self.check(list(files))
        make_folder(self.path)
        with FolderLock(self.path):
            self.check(list(files))
            remove_leftovers(self.path)
            sums = {name: [hashlib.sha256(data).hexdigest()] for name, data in files.items()}
            # First with the old sums, too: a kill leaves old files, new files, or some of each.
            known = self._known() or {}
            others = {name: old for name, old in known.items() if name not in sums}
            both = {name: [*new, *known.get(name, ())] for name, new in sums.items()}
            self._write_sums(others | both)
            for name, data in files.items():
                write_bytes_atomically(self.path / name, data)
            self._write_sums(others | sums)
        return [self.path / name for name in files]

    def _known(self) -> dict[str, list[str]] | None:
        """The hashes of each file that we wrote; None if the folder is not marked as ours."""
        file = self.path / SUMS
        if file.is_symlink() or not file.is_file():
            return None
        with file.open("rb") as opened:
            text = opened.read(_MAX_SUMS_BYTES).decode("utf-8", "replace")
        mark, *lines = text.split("\n")
        if mark != _MARK:
            return None
        known: dict[str, list[str]] = {}
        for line in lines:
            found = _LINE.fullmatch(line)
            if found is not None:
                known.setdefault(found[2], []).append(found[1])
        return known

    def _write_sums(self, sums: Mapping[str, Sequence[str]]) -> None:
        lines = [f"{digest}  {name}\n" for name in sums for digest in dict.fromkeys(sums[name])]
        write_bytes_atomically(self.path / SUMS, f"{_MARK}\n{''.join(lines)}".encode())
