"""Attacks by shards: an index from others, with right checksums, that says what is not so."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack import HOME, Attack
from images import png


def attacks() -> list[Attack]:
    """Return all attacks by shards."""
    return [
        Attack(
            name="shards: shard elsewhere",
            goal="display of a picture of the victim, by an index that names a file elsewhere",
            defence="a shard has the name of a file in its folder",
            make=_set(lambda index: index["shards"][0].update(name=f"../{HOME}/private.tar")),
            message="a shard's name is",
        ),
        Attack(
            name="shards: index of gigabytes",
            goal="memory exhaustion by the claimed number of images",
            defence="the size of the table of images is compared before it is read",
            make=_set(_many_images),
            message="is missing or cut off",
        ),
        Attack(
            name="shards: image of gigabytes",
            goal="memory exhaustion by an image that claims 4 GB",
            defence="an image must lie within its shard, and have at most --max-memory bytes",
            make=_set(lambda index: None, size=(1 << 32) - 1),
            message="has an image outside of its shard",
        ),
        Attack(
            name="shards: sparse shard of terabytes",
            goal="memory exhaustion by an image of 4 GB in a shard that is a sparse file",
            defence="an image must lie within its shard, and have at most --max-memory bytes",
            make=_set(
                lambda index: index["shards"][0].update(num_bytes=1 << 41),
                size=(1 << 32) - 1,
                shard_bytes=1 << 41,
            ),
            message="--max-memory allows more",
        ),
        Attack(
            name="shards: terminal escape in a class name",
            goal="control of the terminal on which classes are displayed",
            defence="names of classes and shards must be printable",
            make=_set(lambda index: index.update(class_names=["\x1b[2J"])),
            message="is no valid index",
        ),
        Attack(
            name="shards: hash that is a path",
            goal="a file of the cache of another name, by a hash that is a path",
            defence="a hash is 64 hex digits",
            make=_set(lambda index: index["samples"].update(sha256=f"../{HOME}/private")),
            message="is not 64 hex digits",
        ),
    ]


def _many_images(index: dict[str, Any]) -> None:
    index["num_samples"] = index["shards"][0]["num_samples"] = (1 << 28) - 1


def _set(
    change: Callable[[dict[str, Any]], None], *, size: int | None = None, shard_bytes: int = 0
) -> Callable[[Path], list[str]]:
    """Return what writes a set of one picture, changes its index, and evaluates on it."""

    def make(folder: Path) -> list[str]:
        shards, home = folder / "shards", folder / HOME
        shards.mkdir()
        home.mkdir()
        content = png(1, 1, bytes(2))
        for path in (shards / "0.tar", home / "private.tar"):
            with tarfile.open(path, "w") as tar:
                info = tarfile.TarInfo("a.png")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        table = struct.pack("<QIII", 512, len(content) if size is None else size, 0, 0)
        num_bytes = (shards / "0.tar").stat().st_size
        if shard_bytes:
            with (shards / "0.tar").open("r+b") as file:
                file.truncate(shard_bytes)
        index: dict[str, Any] = {
            "format": "squeezenet shards", "version": 1, "num_samples": 1, "num_bytes": num_bytes,
            "made_from": "", "class_names": ["cat"],
            "samples": {"name": "index.bin", "sha256": hashlib.sha256(table).hexdigest()},
            "shards": [
                {"name": "0.tar", "num_samples": 1, "num_bytes": num_bytes, "sha256": "0" * 64}
            ],
        }  # fmt: skip
        change(index)
        canonical = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
        index["sha256"] = hashlib.sha256(canonical).hexdigest()
        (shards / "index.json").write_text(json.dumps(index))
        (shards / "index.bin").write_bytes(table)
        return ["eval", "default", str(shards), "--strict"]

    return make
