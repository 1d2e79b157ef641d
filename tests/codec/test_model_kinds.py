"""A file's kind follows from its content, even where it begins like another kind."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from squeezenet.arch.record import ModelRecord
from squeezenet.codec import container, han
from squeezenet.codec.model_kinds import (
    BEST_WEIGHTS,
    MAX_MODEL_BYTES,
    ModelKind,
    find_model,
    is_sqz,
    model_kind,
    read_compressed,
)
from squeezenet.errors import LimitError, TruncatedError, UnknownFormatError, UsageError
from tests.codec.test_han import small_net
from tests.conftest import random_model


def safetensors(length: int) -> bytes:
    header = json.dumps({"__metadata__": {}}).encode()
    return struct.pack("<Q", length) + header.ljust(min(length, 1000))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("length", [0x80, 0x1980, 0x50, 0x04034B50, 64, 2, 100_000_000])
def test_safetensors_of_any_header_length(tmp_path: Path, length: int) -> None:
    """The length comes first, and its bytes may be those of a pickle or of an archive."""
    assert model_kind(written(tmp_path / "x", safetensors(length))) is ModelKind.SAFETENSORS


@pytest.mark.parametrize("length", [0, 1, 100_000_001])
def test_impossible_header_lengths(tmp_path: Path, length: int) -> None:
    data = struct.pack("<Q", length) + b'{"a":1}'
    with pytest.raises(UnknownFormatError):
        model_kind(written(tmp_path / "x", data))


@pytest.mark.parametrize("head", [b"\x80\x02}q\x00.", b"\x80\x04\x95", b"PK\x03\x04"])
def test_pth(tmp_path: Path, head: bytes) -> None:
    assert model_kind(written(tmp_path / "x", head + bytes(300))) is ModelKind.TORCH_PTH


@pytest.mark.parametrize("head", [b"\x08\x07\x12\x07pytorch", b"\x08\x0d:\x80", b"\x08\x03B\x02"])
def test_onnx(tmp_path: Path, head: bytes) -> None:
    assert model_kind(written(tmp_path / "x", head + bytes(300))) is ModelKind.ONNX


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 300, b"PK\x05\x06", b"\x89PNG\r\n\x1a\n"])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "x.sqz", content)
    with pytest.raises(UnknownFormatError, match=r"x\.sqz: not a model that squeezenet knows"):
        model_kind(path)
    assert not is_sqz(path)


def test_compressed_files_are_read(tmp_path: Path, tiny_record: ModelRecord) -> None:
    model = random_model(tiny_record)
    sqz = written(tmp_path / "a", container.encode(model))
    net = written(tmp_path / "b", small_net())
    source = find_model(sqz)
    assert source.kind is source.argument is ModelKind.SQZ and source.path == sqz
    assert source.num_bytes == sqz.stat().st_size
    assert source.sha256 == hashlib.sha256(sqz.read_bytes()).hexdigest()
    assert read_compressed(source).record == tiny_record
    source = find_model(net)
    assert source.kind is ModelKind.HAN_NET
    assert read_compressed(source).record == han.decode_net(small_net()).record
    assert is_sqz(sqz) and not is_sqz(net) and not is_sqz(tmp_path)
    compressed = [kind for kind in ModelKind if kind.is_compressed]
    assert compressed == [ModelKind.SQZ, ModelKind.HAN_NET]


def test_a_cut_magic_is_a_sqz(tmp_path: Path) -> None:
    """So that the error says that the file is too short, not that its kind is unknown."""
    path = written(tmp_path / "x", b"\x89SQZ")
    assert model_kind(path) is ModelKind.SQZ and not is_sqz(path)


def test_the_model_of_a_run_folder_is_its_best_weights(tmp_path: Path) -> None:
    assert model_kind(tmp_path) is ModelKind.RUN_FOLDER
    with pytest.raises(UsageError, match=r"no best\.safetensors inside"):
        find_model(tmp_path)
    best = written(tmp_path / BEST_WEIGHTS, safetensors(64))
    source = find_model(tmp_path)
    assert (source.path, source.kind) == (best, ModelKind.SAFETENSORS)
    assert source.argument is ModelKind.RUN_FOLDER


def test_missing_empty_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        model_kind(tmp_path / "none")
    with pytest.raises(TruncatedError, match="the file is empty"):
        model_kind(written(tmp_path / "empty", b""))
    huge = written(tmp_path / "huge", safetensors(64))
    for size in (MAX_MODEL_BYTES, MAX_MODEL_BYTES + 1):
        with huge.open("r+b") as file:
            file.truncate(size)  # sparse
        if size == MAX_MODEL_BYTES:
            assert model_kind(huge) is ModelKind.SAFETENSORS
        else:
            with pytest.raises(LimitError, match="1073741825 bytes, expected at most 1073741824"):
                model_kind(huge)
