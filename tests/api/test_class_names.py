"""Names of classes from files, folders and lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.api.class_names import class_labels
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.errors import UsageError

NAMES = ("great white shark", "ant", "zebra")


@pytest.mark.parametrize(
    "text",
    [
        "great white shark\nant\nzebra\n",
        "great white shark\r\nant\r\nzebra",
        "\ufeffgreat white shark\n ant \n\nzebra\n\n",
        json.dumps(NAMES),
        json.dumps({name: i for i, name in enumerate(NAMES)}),
        json.dumps({str(i): name for i, name in reversed(list(enumerate(NAMES)))}),
        "0\tgreat white shark\n1\tant\n2\tzebra\n",
    ],
)
def test_files_of_names(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names"
    path.write_text(text, encoding="utf-8", newline="")
    for argument in (path, str(path)):
        labels = class_labels(argument)
        assert labels is not None and labels.names == NAMES and labels.ids == ()


@pytest.mark.parametrize("number", ["", "{}\t"])
def test_files_of_ids_and_names(tmp_path: Path, number: str) -> None:
    names, ids = imagenet_classes()
    lines = (number.format(i) + f"{ids[i]}\t{names[i]}\n" for i in range(len(ids)))
    path = tmp_path / "names.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    labels = class_labels(path)
    assert labels is not None and (labels.names, labels.ids) == (names, ids)


def test_names_are_composed_as_those_of_folders() -> None:
    labels = class_labels(["Ame\u0301lie", "b"])
    assert labels is not None and labels.names == ("Am\u00e9lie", "b")


def test_folders_and_lists(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(zebra=1, ant=2)
    labels = class_labels(folder)
    assert labels is not None and labels.names == ("ant", "zebra")
    image_folder(tmp_path / "split" / "train", cat=1, dog=1, eel=1)
    image_folder(tmp_path / "split" / "val", cat=1)
    labels = class_labels(tmp_path / "split")
    assert labels is not None and labels.names == ("cat", "dog", "eel")
    labels = class_labels(["b", "a"])
    assert labels is not None and labels.names == ("b", "a")
    assert class_labels(None) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no names inside"),
        (b"[]", "expected a JSON list"),
        (b"[1, 2]", "expected a JSON list"),
        (b'{"a": 0, "b": 2}', "numbered from 0"),
        (b"[" * 100_000, "expected a JSON list"),
        (b"a\na\n", "two classes have the same name"),
        (b"a\n\x1b[31mb\n", "printable"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"n1\ta\nn1\tb\n", "distinct class ids"),
    ],
)
def test_files_that_name_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "names"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"--classes .*names.*{message}"):
        class_labels(path)
    with pytest.raises(UsageError, match="no such file"):
        class_labels(tmp_path / "nothing")
