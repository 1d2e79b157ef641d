"""Tars that are there already -> an index of them; the tars stay as they are.

webdataset decides what a sample is: files one after another whose names are equal up to the first
dot. A sample that is used has one picture and a file ``cls`` with the number of its class.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from squeezenet.arch.class_labels import numbered_classes
from squeezenet.arch.spec import MAX_CHANNELS
from squeezenet.data.shards.index import (
    INDEX,
    SAMPLE,
    TABLE,
    Samples,
    Shard,
    ShardIndex,
    is_shard_name,
    read_index_head,
    write_index,
)
from squeezenet.data.shards.keys import LABEL, PICTURE_ENDINGS
from squeezenet.data.shards.processes import in_processes
from squeezenet.errors import DataError, UsageError
from squeezenet.progress import Progress, SilentProgress

_MAX_LABEL_BYTES = 32
_SKIPPED_NAMES = re.compile(r"__[^/]*__($|/)")
"""What webdataset passes over: files about the tar itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScannedShard:
    """A shard, its samples, and the number of samples that are not used, by reason."""

    shard: Shard
    samples_N: Samples
    unused: Mapping[str, int]


def index_folder(
    folder: Path,
    class_names: tuple[str, ...] | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[ShardIndex, Counter[str]]:
    """Write an index beside the tars of a folder; return it, and the unused samples by reason.

    ``class_names``: those of the classes 0, 1, ...; by default those of an index that is there.

    Raises:
        UsageError: there is no such folder, or it has an ``index.json`` that is not ours.
        DataError: it has no tars, a tar is damaged or compressed, or a class has no name.
        OSError: the index cannot be written.
    """
    progress = progress or SilentProgress()
    paths = _tars(folder)
    known = _known_names(folder)
    scanned: list[ScannedShard] = []
    with progress.task(f"index {folder.name}", total=len(paths), unit="shard") as task:
        for part in in_processes(scan_shard, paths, len(paths), workers):
            scanned.append(part)
            task.advance(1, part.shard.name)
    unused = sum((Counter(part.unused) for part in scanned), Counter[str]())
    samples_N = np.concatenate([part.samples_N for part in scanned])
    if not len(samples_N):
        reasons = "".join(f", {number} {reason}" for reason, number in unused.items())
        raise DataError(
            f"{folder}: no samples to use in {len(paths)} tars{reasons}; expected pairs such as "
            f"0001.jpg and 0001.{LABEL}"
        )
    index = ShardIndex(
        class_names=_names(folder, class_names or known, int(samples_N["label"].max()) + 1),
        shards=tuple(part.shard for part in scanned),
        samples_N=samples_N,
    )
    _require_own_table(folder, samples_N)
    write_index(folder, index)
    return index, unused


def scan_shard(path: Path) -> ScannedShard:
    """Read a tar from its beginning to its end.

    Raises:
        DataError: it is damaged, cut off, compressed, or no tar.
    """
    from webdataset.tariterators import group_by_keys

    samples: list[tuple[int, int, int, int]] = []
    unused: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            members = (
                {"fname": each.name, "data": each, "__url__": path.name} for each in _files(file)
            )
            for group in group_by_keys(members):
                sample = _sample(file, group)
                if isinstance(sample, str):
                    unused[sample] += 1
                else:
                    samples.append(sample)
            num_bytes = file.seek(0, 2)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (tarfile.TarError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: is damaged, compressed, or no tar ({reason}); expected a plain tar"
        ) from None
    return ScannedShard(
        shard=Shard(name=path.name, num_samples=len(samples), num_bytes=num_bytes, sha256=sha256),
        samples_N=np.array(samples, SAMPLE),
        unused=unused,
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of a tar.

    Raises:
        tarfile.TarError: it is damaged or cut off, where ``tarfile`` alone would see its end.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            cast(Any, tar).members = []  # which would otherwise keep every one of them
            if not member.isreg() or _SKIPPED_NAMES.match(member.name):
                continue
            if member.issparse():
                raise tarfile.ReadError(f"{member.name} is a sparse file")
            yield member
        file.seek(tar.offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no header at byte {tar.offset:,}")


def _sample(file: BinaryIO, group: Mapping[str, Any]) -> tuple[int, int, int, int] | str:
    """Return what the index has of a sample, or why it is not used."""
    pictures = [name for name in group if name in PICTURE_ENDINGS]
    if len(pictures) != 1:
        return "with several pictures" if pictures else "without a picture"
    label, picture = group.get(LABEL), group[pictures[0]]
    if label is None:
        return f"without a class (.{LABEL})"
    text = _bytes(file, label.offset_data, min(label.size, _MAX_LABEL_BYTES)).strip()
    if not re.fullmatch(rb"[0-9]{1,9}", text) or int(text) >= MAX_CHANNELS:
        return f"whose .{LABEL} is no number of a class"
    if not 0 < picture.size < 1 << 32:
        return "with an empty picture, or one of over 4 GB"
    content = _bytes(file, picture.offset_data, picture.size)
    return picture.offset_data, picture.size, int(text), zlib.crc32(content)


def _bytes(file: BinaryIO, offset: int, num_bytes: int) -> bytes:
    file.seek(offset)
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise tarfile.ReadError("it is cut off")
    return content


def _tars(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".tar" and path.is_file())
    if not paths:
        packed = [path.name for path in folder.iterdir() if re.search(r"\.tar\.|\.tgz$", path.name)]
        found = f"; {packed[0]} is compressed, unpack it to a plain .tar" if packed else ""
        raise DataError(f"{folder}: no tars inside{found}; expected files such as 000000.tar")
    for path in paths:
        if not is_shard_name(path.name):
            raise DataError(f"{path}: a name that not every system allows; rename the file")
    return paths


def _known_names(folder: Path) -> tuple[str, ...] | None:
    """Return the classes of an index that is there and ours.

    Raises:
        UsageError: there is another file of that name.
    """
    path = folder / INDEX
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return read_index_head(path, str(folder)).class_names
    except DataError:
        raise UsageError(
            f"{path}: is no index of ours, or is damaged; rename or remove it first"
        ) from None


def _require_own_table(folder: Path, samples_N: Samples) -> None:
    """Refuse to replace a table of images without its ``index.json``, if it is not this one."""
    path = folder / TABLE
    if path.exists() and not (folder / INDEX).exists() and path.read_bytes() != samples_N.tobytes():
        raise UsageError(f"{path}: was written by somebody else; rename or remove it first")


def _names(folder: Path, names: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return numbered_classes(count)
    if len(names) < count:
        raise DataError(
            f"{folder}: has classes up to number {count - 1}, and there are {len(names)} class "
            "names; expected one per class"
        )
    return names
