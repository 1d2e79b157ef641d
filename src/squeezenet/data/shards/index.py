"""The index of a folder of shards: where each image lies, and what its bytes are.

``index.json`` has the classes, and of each shard its name, size, number of images and SHA-256.
``index.bin`` has 20 bytes per image, in the order of the shards: offset, size, label and CRC-32 of
the image's bytes. Both are checked when they are read; nothing of a shard is read for that.
Legend: N images, S shards.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from squeezenet.arch.labels import check_labels
from squeezenet.errors import DataError, SpecError
from squeezenet.files import write_bytes_atomically
from squeezenet.images.sets import Labels
from squeezenet.sealed_files import read_sealed_json, write_sealed_json

INDEX, TABLE = "index.json", "index.bin"
UNFINISHED = "unfinished-shards.json"
"""Marks a folder of shards that are being written as ours."""
SAMPLE = np.dtype([("offset", "<u8"), ("size", "<u4"), ("label", "<u4"), ("crc32", "<u4")])
"""An image in ``index.bin``: its first byte in the shard, number of bytes, class, CRC-32."""
MAX_INDEX_BYTES = 1 << 26
"""Of ``index.json``: 400,000 shards, or 250,000 and the longest class names that there may be."""
MAX_SAMPLES = 1 << 28
"""200 times ImageNet; 5 GB of ``index.bin``."""
_FORMAT, _VERSION = "squeezenet shards", 1
_MAKE_ANEW = "squeezenet shard --index makes it anew from the shards"

Samples: TypeAlias = "npt.NDArray[np.void]"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A tar file: its name in the folder, images, bytes, and SHA-256 in hex."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex:
    """The classes, the shards, and the images of all shards, one after another.

    ``made_from``: hash of the pictures and options that the shards were made from; empty for
    shards of others.
    """

    class_names: tuple[str, ...]
    shards: tuple[Shard, ...]
    samples_N: Samples
    made_from: str = ""

    @cached_property
    def ends_S(self) -> Labels:
        """For each shard, the index of the image after its last one."""
        return np.cumsum([shard.num_samples for shard in self.shards], dtype=np.int64)

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.num_bytes for shard in self.shards)

    def shard_of(self, rows: Labels) -> Labels:
        """Return the number of the shard that has each of these images."""
        return np.searchsorted(self.ends_S, rows, side="right")


def is_shard_folder(folder: Path) -> bool:
    """Whether a folder has the index of shards; an ``index.json`` alone may be of anything."""
    return (folder / INDEX).is_file() and (
        (folder / TABLE).is_file() or any(path.suffix == ".tar" for path in folder.iterdir())
    )


def is_shard_name(name: str) -> bool:
    """Whether a shard may have this name: that of a file in the folder, never elsewhere."""
    return (
        name.endswith(".tar")
        and not name.startswith(".")
        and len(os.fsencode(name)) <= 255
        and name.isprintable()
        and not any(c in name for c in '/\\:*?"<>|')
    )


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write both files; a folder has an ``index.json`` only when all else is there.

    Raises:
        OSError: they cannot be written.
    """
    table = index.samples_N.tobytes()
    write_bytes_atomically(folder / TABLE, table)
    write_sealed_json(
        folder / INDEX,
        {
            "format": _FORMAT,
            "version": _VERSION,
            "num_samples": len(index.samples_N),
            "num_bytes": index.num_bytes,
            "made_from": index.made_from,
            "class_names": list(index.class_names),
            "samples": {"name": TABLE, "sha256": hashlib.sha256(table).hexdigest()},
            "shards": [asdict(shard) for shard in index.shards],
        },
    )


def read_index(folder: Path, title: str | None = None) -> ShardIndex:
    """Read and check the index in a folder; ``title`` is what messages call the folder.

    Raises:
        DataError: it is missing, damaged, or of a version that this release does not read.
    """
    head = read_index_head(folder / INDEX, title or str(folder))
    return with_samples(head, folder / TABLE, title or str(folder))


@dataclass(frozen=True, kw_only=True)
class IndexHead:
    """What ``index.json`` says; ``table_sha256`` is that of ``index.bin``."""

    class_names: tuple[str, ...]
    shards: tuple[Shard, ...]
    num_samples: int
    table_sha256: str
    made_from: str

    @property
    def table_bytes(self) -> int:
        """Size of ``index.bin``."""
        return self.num_samples * SAMPLE.itemsize


def read_index_head(path: Path, title: str) -> IndexHead:
    """Read ``index.json`` alone.

    Raises:
        DataError: see ``read_index``.
    """
    where = f"{title}/{INDEX}"
    if not path.is_file():
        raise DataError(f"{where}: is missing; {_MAKE_ANEW}")
    found = read_sealed_json(path, MAX_INDEX_BYTES)
    if found is None:
        raise DataError(f"{where}: is damaged, or no index of shards; {_MAKE_ANEW}")
    if found.get("format") != _FORMAT or found.get("version") != _VERSION:
        raise DataError(
            f"{where}: is {str(found.get('format'))[:40]!r}, version "
            f"{str(found.get('version'))[:40]}, expected {_FORMAT!r}, version {_VERSION}"
        )
    try:
        head = IndexHead(
            class_names=tuple(_typed(name, str) for name in _typed(found["class_names"], list)),
            shards=tuple(_shard(entry) for entry in _typed(found["shards"], list)),
            num_samples=_count(found["num_samples"]),
            table_sha256=_sha256(found["samples"]["sha256"]),
            made_from=_typed(found["made_from"], str),
        )
        check_labels(head.class_names, (), len(head.class_names), where)
        names = {shard.name for shard in head.shards}
        if (
            not head.class_names
            or len(names) != len(head.shards)
            or not 0 < head.num_samples < MAX_SAMPLES
        ):
            raise ValueError("no class, no image, or two shards of one name")
        if sum(shard.num_samples for shard in head.shards) != head.num_samples:
            raise ValueError("the shards' images do not add up")
    except (KeyError, TypeError, ValueError, SpecError) as error:
        raise DataError(f"{where}: is no valid index ({error}); {_MAKE_ANEW}") from None
    return head


def with_samples(head: IndexHead, table: Path, title: str) -> ShardIndex:
    """Return the whole index: the head, and the table of images in the file ``table``.

    Raises:
        DataError: the table is missing, damaged, or does not fit the head.
    """
    where = f"{title}/{TABLE}"
    try:
        # Its size first: no memory is taken for what is not there.
        if not table.is_file() or table.stat().st_size != head.table_bytes:
            raise DataError(
                f"{where}: is missing or cut off, expected {head.table_bytes:,} bytes; {_MAKE_ANEW}"
            )
        content = table.read_bytes()
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != head.table_sha256:
        raise DataError(f"{where}: is damaged; {_MAKE_ANEW}")
    index = ShardIndex(
        class_names=head.class_names,
        shards=head.shards,
        samples_N=np.frombuffer(content, SAMPLE),
        made_from=head.made_from,
    )
    sizes_N = np.repeat(
        np.array([shard.num_bytes for shard in head.shards], np.uint64),
        [shard.num_samples for shard in head.shards],
    )
    offset_N, size_N = index.samples_N["offset"], index.samples_N["size"].astype(np.uint64)
    fits = (offset_N <= sizes_N) & (size_N <= sizes_N - np.minimum(offset_N, sizes_N))
    if not fits.all() or int(index.samples_N["label"].max()) >= len(head.class_names):
        raise DataError(f"{where}: has an image outside of its shard, or of no class; {_MAKE_ANEW}")
    return index


def _shard(entry: Any) -> Shard:
    shard = Shard(
        name=_typed(entry["name"], str),
        num_samples=_count(entry["num_samples"]),
        num_bytes=_count(entry["num_bytes"]),
        sha256=_sha256(entry["sha256"]),
    )
    if not is_shard_name(shard.name):
        raise ValueError(f"a shard's name is {shard.name!r}")
    return shard


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"found {str(value)[:40]!r}, expected {kind.__name__}")
    return value


def _sha256(value: Any) -> str:
    if not re.fullmatch("[0-9a-f]{64}", _typed(value, str)):
        raise ValueError("a SHA-256 is not 64 hex digits")
    return str(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise TypeError(f"found {str(value)[:40]!r}, expected a number")
    return value
