"""Bytes are taken in order, and never more than there are."""

from __future__ import annotations

import pytest

from squeezenet.codec.reader import ByteReader
from squeezenet.errors import MalformedError


def test_bytes_are_taken_in_order() -> None:
    reader = ByteReader(b"\x01\x02\x03\x04\x05\x06", "x")
    assert reader.take(0) == b"" and reader.take(1) == b"\x01"
    assert reader.unpack("<HB") == (0x0302, 4)
    assert reader.rest() == b"\x05\x06" and reader.rest() == b""
    reader.finish()


def test_missing_and_left_over_bytes_are_refused() -> None:
    reader = ByteReader(b"abc", "x")
    assert reader.take(1) == b"a"
    with pytest.raises(MalformedError, match="x: 2 bytes are left, expected 3"):
        reader.take(3)
    with pytest.raises(MalformedError, match="x: 2 bytes are left, expected 4"):
        reader.unpack("<I")
    with pytest.raises(MalformedError, match="x: 2 bytes too many"):
        reader.finish()
    assert reader.take(2) == b"bc"
