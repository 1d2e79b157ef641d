"""The pictures under a folder, and what was passed over and why. Standard library only.

Links to files and folders are followed, each real folder once. Hidden entries, folders that
operating systems and storage devices make, and files that are no pictures are passed over.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from squeezenet.images.formats import ENDINGS, HEIC_ENDINGS, why_not_a_picture
from squeezenet.progress import Progress

_SYSTEM_FOLDERS = frozenset({
    "__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin",
    "recycler", "recycled", "lost+found", "system volume information", "__pycache__",
})  # fmt: skip
"""Made by macOS archives, Synology, QNAP, Windows, Linux file systems and Python. Lower case."""
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
"""Made by Windows and macOS in folders of pictures. Lower case. Nobody expects them to be used."""
_MAX_REASONS = 5
"""Reasons that a summary names; the list has all."""


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """A file or folder that is not used, and why. ``reason`` is the same for entries alike."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a search for pictures has to say: what it passed over, and notes, a line each."""

    passed_over: tuple[PassedOver, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        """Return both; what is in both stands once."""
        return Findings(
            passed_over=tuple(dict.fromkeys(self.passed_over + other.passed_over)),
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
        )

    @property
    def counts(self) -> dict[str, int]:
        """Number of entries passed over per reason, the most frequent first."""
        return dict(Counter(entry.reason for entry in self.passed_over).most_common())

    def summary(self, *, hint: bool = True) -> str | None:
        """Return one line that counts what was passed over and why; None if nothing was.

        ``hint``: end with the option that lists it.
        """
        counts = self.counts
        if not counts:
            return None
        shown = [_counted(reason, number) for reason, number in [*counts.items()][:_MAX_REASONS]]
        rest = sum([*counts.values()][_MAX_REASONS:])
        if rest:
            shown.append(f"{rest} for other reasons")
        return f"not used: {', '.join(shown)}{'; --list-unused names them' if hint else ''}"


NOTHING = Findings()


def _counted(reason: str, number: int) -> str:
    """Return a number with its reason, whose first noun is in the plural where it must be."""
    if number > 1:
        reason = re.sub(r"\b(folder|file|picture|link)\b", r"\1s", reason, count=1)
    return f"{number} {reason}"


def log_findings(findings: Findings, progress: Progress) -> None:
    """Say before long work what of its data is not used, and what else there is to say."""
    summary = findings.summary()
    for line in (*findings.notes, *([summary] if summary else [])):
        progress.log(line)


def find_pictures(folder: Path) -> tuple[list[Path], list[PassedOver]]:
    """Return the pictures under a folder, sorted by path, and what was passed over.

    A folder of files as it comes from cameras, phones and archives may have anything in it; see
    ``formats`` for what a picture is.
    """
    pictures: list[Path] = []
    passed_over: list[PassedOver] = []
    waiting, seen = [folder], {_identity(folder)}
    while waiting:
        for entry in _entries(waiting.pop(), passed_over):
            path = Path(entry.path)
            if entry.is_dir():
                reason, identity = _why_not_a_folder(entry.name), _identity(path)
                if reason is None and identity in seen:
                    reason = "link to a folder that is used already"
                if reason is None:
                    seen.add(identity)
                    waiting.append(path)
            else:
                reason = _why_not_a_file(entry)
                if reason is None:
                    pictures.append(path)
            if reason:
                passed_over.append(PassedOver(path=path, reason=reason))
    return sorted(pictures), sorted(passed_over, key=lambda each: each.path)


def visible_folders(root: Path) -> tuple[list[Path], list[PassedOver]]:
    """Return the folders directly in ``root``, sorted by name, and what else is passed over."""
    folders: list[Path] = []
    passed_over: list[PassedOver] = []
    for entry in _entries(root, passed_over):
        path = Path(entry.path)
        if entry.is_dir():
            reason = _why_not_a_folder(entry.name)
            if reason is None:
                folders.append(path)
        else:
            reason = _why_not_a_file(entry)
            reason = "picture outside of the class folders" if reason is None else reason
        if reason:
            passed_over.append(PassedOver(path=path, reason=reason))
    return sorted(folders), sorted(passed_over, key=lambda each: each.path)


def has_own_pictures(folder: Path) -> bool:
    """Whether there is a picture in the folder itself, not in the folders in it."""
    entries = _entries(folder, [])
    return any(_why_not_a_file(entry) is None for entry in entries if not entry.is_dir())


def _entries(folder: Path, passed_over: list[PassedOver]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        reason = f"folder that cannot be opened ({error.strerror})"
        passed_over.append(PassedOver(path=folder, reason=reason))
        return []


def _why_not_a_folder(name: str) -> str | None:
    """Return why a folder is passed over by its name; None if it is not."""
    if name.startswith("."):
        return "hidden folder"
    return "system folder" if name.lower() in _SYSTEM_FOLDERS else None


def _why_not_a_file(entry: os.DirEntry[str]) -> str | None:
    """Return why a file is passed over: None for a picture, "" where nobody expects it used."""
    if entry.name.lower() in _SYSTEM_FILES:
        return ""
    path = Path(entry.path)
    if entry.name.startswith("."):
        return "hidden picture" if path.suffix.lower() in ENDINGS | HEIC_ENDINGS else ""
    if not entry.is_file():
        return "broken link" if entry.is_symlink() else "file that is not a regular file"
    return why_not_a_picture(path)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a real folder from another, whatever links lead to it."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
