"""Names and ids of classes in each of their three kinds, and what is refused."""

from __future__ import annotations

import pytest

from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.codec.labels import label_bytes, split_labels
from squeezenet.codec.range_text import decode_text
from squeezenet.codec.reader import ByteReader
from squeezenet.errors import MalformedError

IMAGENET_NAMES, IMAGENET_IDS = imagenet_classes()


@pytest.mark.parametrize(
    ("kind", "names", "ids", "text"),
    [
        (0, ("a", "b c"), (), "a\nb c"),
        (1, tuple(f"n{i}" for i in range(1000)), IMAGENET_IDS, None),
        (2, ("a", "b"), ("x", "y"), "a\nb\nx\ny"),
        (2, IMAGENET_NAMES, IMAGENET_IDS[::-1], None),
    ],
)
def test_round_trip(
    kind: int, names: tuple[str, ...], ids: tuple[str, ...], text: str | None
) -> None:
    data = label_bytes(names, ids)
    assert data[0] == kind
    decoded = decode_text(ByteReader(data[1:], "x"))
    assert text is None or decoded == text
    assert split_labels(kind, decoded, "x") == (names, ids)


def test_unknown_kinds_and_odd_lines_are_refused() -> None:
    with pytest.raises(MalformedError, match="x: kind of ids 3, expected 0 to 2"):
        split_labels(3, "a\nb", "x")
    with pytest.raises(MalformedError, match="x: 3 lines, expected as many ids as names"):
        split_labels(2, "a\nb\nc", "x")
