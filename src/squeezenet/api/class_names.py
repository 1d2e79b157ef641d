"""Names of classes from outside, for weights whose file does not name them."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from squeezenet.arch.class_labels import ClassLabels, ordered_names
from squeezenet.arch.labels import check_labels
from squeezenet.errors import SpecError, UsageError

Classes: TypeAlias = "str | os.PathLike[str] | Sequence[str]"
"""A file or folder that names classes, or their names in the order of the outputs."""
MAX_FILE_BYTES = 1 << 24
"""65,536 names of the longest that there may be."""


def class_labels(classes: Classes | None) -> ClassLabels | None:
    """Read class names from a text file, a JSON file, or a folder of class folders.

    A text file has a name per line, or an id and a name with a tab between them; the number of the
    output may stand before, with a tab too. A JSON file has a
    list of names, or an object of names and outputs. The names of a folder's classes are sorted,
    as for training; of a folder with splits, those of ``train/`` count.

    Raises:
        UsageError: there is no such file, or it has no valid names.
    """
    if classes is None:
        return None
    if not isinstance(classes, (str, os.PathLike)):
        return _checked(ClassLabels(names=tuple(map(str, classes))), "classes")
    path = Path(classes)
    if path.is_dir():
        from squeezenet.images.folders import find_splits, read_class_folders

        splits = find_splits(path)
        folder = splits.get("train") or next(iter(splits.values()), path)
        return _checked(ClassLabels(names=read_class_folders(folder).class_names), str(path))
    if not path.is_file():
        raise UsageError(f"--classes {path}: no such file or folder")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"--classes {path}: over {MAX_FILE_BYTES:,} bytes, expected class names")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--classes {path}: is not text in UTF-8, expected class names") from None
    return _checked(_parse(text, path), str(path))


def _parse(text: str, path: Path) -> ClassLabels:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            names = ordered_names(json.loads(text))
        except (ValueError, RecursionError):
            names = ()
        if not names:
            raise UsageError(
                f"--classes {path}: expected a JSON list of names, or an object of names and "
                "outputs numbered from 0"
            )
        return ClassLabels(names=names)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or not all("\t" in line for line in lines):
        return ClassLabels(names=tuple(lines))
    first, rest = zip(*(map(str.strip, line.split("\t", 1)) for line in lines), strict=True)
    if first == tuple(map(str, range(len(first)))):  # outputs
        return _parse("\n".join(rest), path)
    return ClassLabels(names=rest, ids=first)


def _checked(labels: ClassLabels, where: str) -> ClassLabels:
    # As the names of class folders are, whatever file system they come from.
    names, ids = (
        tuple(unicodedata.normalize("NFC", each) for each in part)
        for part in (labels.names, labels.ids)
    )
    labels = ClassLabels(names=names, ids=ids)
    if not labels.names:
        raise UsageError(f"--classes {where}: no names inside, expected one per line")
    try:
        check_labels(labels.names, labels.ids, len(labels.names), where)
    except SpecError as error:
        raise UsageError(f"--classes {error}") from None
    return labels
