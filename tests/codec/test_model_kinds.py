"""What a file is follows from its content, even where it begins like another kind."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from squeezenet.codec.model_kinds import ModelKind, model_kind


@pytest.mark.parametrize("length", [0x80, 0x1980, 0x50, 0x04034B50, 64])
def test_safetensors_of_any_header_length(tmp_path: Path, length: int) -> None:
    """The length stands first, and its bytes may be those of a pickle or of an archive."""
    header = json.dumps({"__metadata__": {}}).encode()
    path = tmp_path / "x"
    path.write_bytes(struct.pack("<Q", length) + header.ljust(min(length, 1000)))
    assert model_kind(path) is ModelKind.SAFETENSORS


@pytest.mark.parametrize("head", [b"\x80\x02}q\x00.", b"\x80\x04\x95", b"PK\x03\x04"])
def test_pth(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(head + bytes(300))
    assert model_kind(path) is ModelKind.TORCH_PTH
