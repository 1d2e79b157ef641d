"""No damage of a file that is read back goes unnoticed."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeezenet import sealed_files
from squeezenet.sealed_files import (
    open_sealed,
    read_sealed,
    read_sealed_json,
    read_sealed_lines,
    sealed_line,
    write_sealed,
    write_sealed_json,
)

SEED, NUM_FLIPS, NUM_CUTS = 0, 400, 100
JSON = {"spec": {"name": "squeezenet_tiny", "rate": 0.1}, "seed": 0, "names": ["a", "\u00e9"]}
LINES = [{"kind": "train", "step": step, "loss": 1 / step} for step in range(1, 30)]


def write_binary(path: Path) -> None:
    write_sealed(path, lambda file: file.write(bytes(range(200))))


def write_json(path: Path) -> None:
    write_sealed_json(path, JSON)


@pytest.mark.parametrize(
    ("write", "read", "content"),
    [(write_binary, read_sealed, bytes(range(200))), (write_json, read_sealed_json, JSON)],
    ids=["binary", "json"],
)
def test_every_damage_is_noticed(
    tmp_path: Path, write: Callable[[Path], None], read: Callable[[Path], Any], content: Any
) -> None:
    """400 flipped bits and 100 truncations: nothing, or what was written; never anything else."""
    path, rng = tmp_path / "file", random.Random(SEED)
    write(path)
    data = path.read_bytes()
    assert read(path) == content
    noticed = 0
    for bit in rng.sample(range(8 * len(data)), NUM_FLIPS):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = read(path)
        assert found is None or found == content  # white space in JSON says nothing
        noticed += found is None
    assert noticed > 0.7 * NUM_FLIPS
    for length in rng.sample(range(len(data)), NUM_CUTS):
        path.write_bytes(data[:length])
        assert read(path) is None
    path.write_bytes(data + b"\n" * (read is read_sealed))
    assert (read(path) is None) == (read is read_sealed)
    path.unlink()
    assert read(path) is None


def test_every_damaged_line_is_left_out_and_counted(tmp_path: Path) -> None:
    path, rng = tmp_path / "metrics.jsonl", random.Random(SEED)
    data = "".join(map(sealed_line, LINES)).encode()
    path.write_bytes(data)
    assert read_sealed_lines(path) == (LINES, 0)
    for bit in rng.sample(range(8 * len(data)), NUM_FLIPS):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        lines, num_bad = read_sealed_lines(path)
        assert all(line in LINES for line in lines) and len(lines) >= len(LINES) - 2
        assert num_bad or lines == LINES
    for length in rng.sample(range(len(data)), NUM_CUTS):
        path.write_bytes(data[:length])
        lines, num_bad = read_sealed_lines(path)
        assert lines == LINES[: len(lines)] and num_bad <= 1


def test_the_lines_stay_plain_json(tmp_path: Path) -> None:
    assert json.loads(sealed_line({"step": 1, "loss": 0.5})) == {
        "step": 1, "loss": 0.5, "crc32": "e3db2d42",
    }  # fmt: skip


def test_torch_and_numpy_pass_over_the_checksum(tmp_path: Path) -> None:
    weights = torch.arange(1000.0)
    write_sealed(tmp_path / "a.pt", lambda file: torch.save({"w": weights}, file))
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True)["w"], weights)
    buffer = io.BytesIO()
    np.savez(buffer, w=weights.numpy())
    write_sealed(tmp_path / "a.npz", lambda file: file.write(buffer.getvalue()))
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["w"], weights.numpy())


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    for text in (
        "[" * 100_000,
        '{"a": ' * 50_000,
        "9" * 5000,
        '{"a": 1',
        "[]",
        "null",
        '{"sha256": 1}',
    ):
        path.write_text(text)
        assert read_sealed_json(path) is None
    write_sealed_json(path, {"a": "x" * sealed_files.MAX_JSON_BYTES})
    assert read_sealed_json(path) is None
    long = sealed_line({"a": "x" * sealed_files.MAX_LINE_BYTES})
    path.write_text(sealed_line({"a": 1}) + long + sealed_line({"a": 2}) + "[" * 4000)
    assert read_sealed_lines(path) == ([{"a": 1}, {"a": 2}], 2)
    monkeypatch.setattr(sealed_files, "MAX_LINES_BYTES", len(sealed_line({"a": 1})))
    assert read_sealed_lines(path) == ([{"a": 1}], 1)
    monkeypatch.setattr(sealed_files, "MAX_BINARY_BYTES", 199)
    write_binary(path)
    assert open_sealed(path) is None


@pytest.mark.parametrize("read", [open_sealed, read_sealed, read_sealed_json])
def test_neither_pipes_nor_folders_are_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        assert read(path) is None
        assert read_sealed_lines(path) == ([], 0)
