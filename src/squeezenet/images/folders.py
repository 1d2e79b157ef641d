"""Class folders and the parts of a data set: what the names of folders mean.

``<class>/**/<picture>``, or ``train/``, ``val/`` and ``test/`` with such folders in them. The parts
may have any of their usual names: see ``_SPLIT_WORDS``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from squeezenet.arch.labels import MAX_NAME_CHARACTERS
from squeezenet.errors import DataError, UsageError
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import FolderImages
from squeezenet.images.walk import (
    Findings,
    PassedOver,
    find_pictures,
    has_own_pictures,
    visible_folders,
)

SPLITS = ("train", "val", "test")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
"""Names of the parts of a data set, as PyTorch, Keras, fastai, Roboflow and Kaggle have them."""
_FILLER_WORDS = frozenset({"set", "data", "dataset", "images", "image", "imgs", "img", "split"})
"""Words beside them that change nothing: train_set, test images."""


def split_of(name: str) -> str | None:
    """Return which part of a data set a folder's name stands for: a word of ``SPLITS``, or None."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    words = [re.sub(r"(?<=.)(data)?set$", "", word) for word in words]
    words = [word for word in words if word not in _FILLER_WORDS]
    return _SPLIT_WORDS.get(words[0]) if len(words) == 1 else None


def find_splits(root: Path) -> dict[str, Path]:
    """Return the parts of a data set in ``root`` by their names in ``SPLITS``; empty if none.

    A folder with pictures of its own is a class, whatever its name.

    Raises:
        DataError: two folders for one part, or folders that may be either classes or parts.
    """
    folders = visible_folders(root)[0] if root.is_dir() else []
    named = [folder for folder in folders if split_of(folder.name)]
    parts = [folder for folder in named if _holds_class_folders(folder)]
    others = [folder for folder in folders if folder not in named]
    if not parts:
        if named and not others and len(named) > 1:
            raise DataError(
                f"{root}: {_names(named)} look like parts of a data set, but have no class "
                f"folders in them; expected {named[0].name}/<class>/<picture>"
            )
        return {}
    if len(parts) == 1 and any(has_own_pictures(folder) for folder in others):
        raise DataError(
            f"{root}: {parts[0].name}/ has folders in it as a part of a data set has, beside "
            f"classes such as {others[0].name}/; put its pictures into {parts[0].name}/ itself if "
            "it is a class, or move the other folders elsewhere"
        )
    splits: dict[str, Path] = {}
    for folder in named:
        split = split_of(folder.name)
        assert split is not None
        if split in splits:
            raise DataError(
                f"{root}: both {splits[split].name}/ and {folder.name}/ are a {split} part; "
                "expected one, rename the other"
            )
        splits[split] = folder
    return {split: splits[split] for split in SPLITS if split in splits}


def beside_splits(root: Path, splits: dict[str, Path]) -> Findings:
    """Return what is in ``root`` beside the parts of a data set, which is not used."""
    folders, passed_over = visible_folders(root)
    unused = [
        PassedOver(path=folder, reason=f"folder beside {'/, '.join(splits)}/")
        for folder in folders
        if folder not in splits.values()
    ]
    notes = [
        f"{folder} is taken as the {split} part"
        for split, folder in splits.items()
        if folder.name != split
    ]
    return Findings(passed_over=(*passed_over, *unused), notes=tuple(notes))


def read_class_folders(
    root: Path, *, allow_empty: bool = False, limits: ImageLimits = DEFAULT_LIMITS
) -> FolderImages:
    """List the pictures ``root/<class>/**``; classes are the folders' names, sorted.

    Opens no image, except of files with an unknown ending. ``allow_empty``: leave out class
    folders without pictures, which is what evaluation wants; training must know every class.
    Names are in Unicode's composed form (NFC), and folders with equal names are one class.

    Raises:
        UsageError: ``root`` is not a folder.
        DataError: no class folders, no images, or a class without images.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    folders, passed_over = visible_folders(root)
    if not folders:
        raise DataError(f"{root}: no class folders inside; expected {root.name}/<class>/<image>")
    notes = _same_sub_folders(folders)
    members: dict[str, list[Path]] = {}
    empty: list[Path] = []
    for folder in folders:
        name = _class_name(folder)
        found, not_used = find_pictures(folder)
        passed_over += not_used
        if not found:
            empty.append(folder)
            continue
        if name in members:
            notes.append(f"{folder}: a second folder of class {name!r}, taken together")
        members.setdefault(name, []).extend(found)
    findings = Findings(passed_over=tuple(passed_over), notes=tuple(notes))
    if not members:
        raise DataError(
            f"{root}: no images inside; expected {root.name}/<class>/<image>{_because(findings)}"
        )
    if empty and not allow_empty:
        raise DataError(
            f"{root}: class {empty[0].name!r} has no images ({len(empty)} of {len(folders)} class "
            f"folders are empty); add images or remove the folder{_because(findings)}"
        )
    if empty:
        note = f"{root}: no images in {len(empty)} of {len(folders)} classes ({_names(empty)})"
        findings += Findings(notes=(note,))
    names = sorted(members)
    return FolderImages(
        paths=tuple(path for name in names for path in members[name]),
        labels=np.repeat(np.arange(len(names)), [len(members[name]) for name in names]),
        class_names=tuple(names),
        findings=findings,
        limits=limits,
    )


def read_unlabelled(root: Path, limits: ImageLimits = DEFAULT_LIMITS) -> FolderImages:
    """List all pictures under a folder; every label is 0.

    Raises:
        UsageError: ``root`` is not a folder.
        DataError: it has no images.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    paths, passed_over = find_pictures(root)
    findings = Findings(passed_over=tuple(passed_over))
    if not paths:
        raise DataError(f"{root}: no images inside{_because(findings)}")
    return FolderImages(
        paths=tuple(paths),
        labels=np.zeros(len(paths), np.int64),
        class_names=("unlabelled",),
        findings=findings,
        limits=limits,
    )


def eval_split(root: Path, split: str | None = None) -> str | None:
    """Choose the part of a folder to evaluate on: see ``choose_split``."""
    return choose_split(str(root), tuple(find_splits(root)), split)


def choose_split(where: str, splits: Sequence[str], split: str | None = None) -> str | None:
    """Choose the part to evaluate on: ``split`` if given, else ``test``, else ``val``.

    None means the data set itself, which has no parts. ``where`` is its name in messages.

    Raises:
        UsageError: the part does not exist, or only ``train`` does and was not asked for.
    """
    if split is None and list(splits) == ["train"]:
        raise UsageError(
            f"{where}: only train/ inside, expected test/ or val/; pass --split train to evaluate "
            "on training images"
        )
    if split is not None and split not in splits:
        raise UsageError(
            f"{where}: no folder {split!r} inside; found {', '.join(splits) or 'no parts'}"
        )
    return split or next((name for name in ("test", "val") if name in splits), None)


def read_eval_folder(
    root: Path, split: str | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> FolderImages:
    """List the images to evaluate a model on: those of ``eval_split``.

    Raises:
        UsageError, DataError: see ``eval_split`` and ``read_class_folders``.
    """
    chosen = eval_split(root, split)
    folder = find_splits(root)[chosen] if chosen else root
    return read_class_folders(folder, allow_empty=True, limits=limits)


def _holds_class_folders(folder: Path) -> bool:
    return bool(visible_folders(folder)[0]) and not has_own_pictures(folder)


def _class_name(folder: Path) -> str:
    """Return a folder's name as a class name: macOS and Linux write é in different ways."""
    name = unicodedata.normalize("NFC", folder.name)
    if not name.isprintable() or len(name) > MAX_NAME_CHARACTERS:
        raise DataError(
            f"{folder.parent}: folder name {name!r} is not a valid class name, expected at most "
            f"{MAX_NAME_CHARACTERS} printable characters; rename the folder"
        )
    return name


def _same_sub_folders(folders: list[Path]) -> list[str]:
    """Return a note if the classes look like parts of a data set: all have the same folders."""
    if len(folders) < 2 or any(has_own_pictures(folder) for folder in folders):
        return []
    inside = {tuple(child.name for child in visible_folders(folder)[0]) for folder in folders}
    names = inside.pop()
    if inside or len(names) < 2:
        return []
    return [
        f"the classes are {_names(folders)}; all have the same folders inside "
        f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): if those are the classes, "
        "name the outer folders train/ and val/"
    ]


def _names(folders: list[Path]) -> str:
    shown = [f"{folder.name}/" for folder in folders[:4]]
    return ", ".join(shown) + (", ..." if len(folders) > len(shown) else "")


def _because(findings: Findings) -> str:
    summary = findings.summary(hint=False)
    return f" ({summary})" if summary else ""
