"""Every damage to an index is an error in one line, before a shard is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezenet.data.shards.index import INDEX, SAMPLE, TABLE, is_shard_name, read_index
from squeezenet.errors import DataError
from squeezenet.sealed_files import write_sealed_json
from tests.data.shards.conftest import MakeShards


def test_what_is_in_it(make_shards: MakeShards) -> None:
    folder = make_shards()
    index = read_index(folder)
    assert index.class_names == ("a", "b", "c")
    assert [shard.name for shard in index.shards][:2] == ["shard-000000.tar", "shard-000001.tar"]
    assert index.num_bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))
    assert SAMPLE.itemsize == 20 and (folder / TABLE).stat().st_size == 37 * 20
    starts = index.ends_S - [shard.num_samples for shard in index.shards]
    assert index.shard_of(starts).tolist() == list(range(len(index.shards)))
    assert index.shard_of(index.ends_S - 1).tolist() == list(range(len(index.shards)))
    assert not list(folder.glob("*.done")) and not (folder / "unfinished-shards.json").exists()


def test_every_flipped_bit_and_every_cut(make_shards: MakeShards) -> None:
    folder = make_shards()
    rng = np.random.default_rng(0)
    for name in (INDEX, TABLE):
        path = folder / name
        whole = path.read_bytes()
        # A byte of white space, or a letter's case in an escape, may change without a meaning.
        for at in rng.integers(0, len(whole), 100).tolist():
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            if name == TABLE or not same_json(damaged, whole):
                with pytest.raises(DataError, match=f"{path}: .* squeezenet shard --index"):
                    read_index(folder)
        for length in rng.integers(0, len(whole), 20).tolist():
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match=f"{path}: "):
                read_index(folder)
        path.unlink()
        with pytest.raises(DataError, match=f"{path}: is missing"):
            read_index(folder)
        path.write_bytes(whole)
    read_index(folder)


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"num_samples": 36},
        {"num_samples": -1},
        {"num_samples": 1 << 40},
        {"num_samples": True},
        {"class_names": []},
        {"class_names": ["a", "a", "b"]},
        {"class_names": ["a", "b", "c\x1b"]},
        {"class_names": "abc"},
        {"class_names": ["a"]},
        {"samples": {}},
        {"samples": 3},
        {"shards": [{}]},
        {"shards": [5]},
        {"shards": None},
    ],
)
def test_contents_that_cannot_be(make_shards: MakeShards, change: dict[str, Any]) -> None:
    folder = make_shards()
    write(folder, content(folder) | change)
    with pytest.raises(DataError, match=f"{folder}/index"):
        read_index(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x.tar"},
        {"name": "/etc/x.tar"},
        {"name": "shard-000001.tar"},
        {"name": "a\nb.tar"},
        {"name": 3},
        {"num_bytes": 600},
        {"num_bytes": -5},
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"num_samples": 3},
    ],
)
def test_shards_that_cannot_be(make_shards: MakeShards, change: dict[str, Any]) -> None:
    folder = make_shards()
    found = content(folder)
    found["shards"][0] |= change
    write(folder, found)
    with pytest.raises(DataError, match=f"{folder}/index"):
        read_index(folder)


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / INDEX).read_bytes())
    del found["sha256"]
    return found


def write(folder: Path, content: dict[str, Any]) -> None:
    write_sealed_json(folder / INDEX, content)


@pytest.mark.parametrize("name", ["000000.tar", "imagenet-train-000001.tar", "é.tar"])
def test_names_of_shards(name: str) -> None:
    assert is_shard_name(name)


@pytest.mark.parametrize("name", ["a.tgz", ".tar", "a/b.tar", "a\\b.tar", "x" * 252 + ".tar"])
def test_names_that_shards_cannot_have(name: str) -> None:
    assert not is_shard_name(name)
