"""A folder of pictures -> shards: the files' own bytes, shuffled over tars of about one size.

A sample is ``CLASS/NAME-NUMBER.jpg`` with the picture's bytes, never encoded again, and
``CLASS/NAME-NUMBER.cls`` with the number of its class, as webdataset reads them. Equal pictures,
names and options give equal bytes, however often the work was interrupted: each shard is written
whole or not at all, and a file beside it, ``SHARD.done``, has its part of the index until all are
there. Whether a picture can be decoded is not looked at.
Legend: N pictures, S shards.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from squeezenet.data.shards.index import (
    INDEX,
    SAMPLE,
    TABLE,
    UNFINISHED,
    Samples,
    Shard,
    ShardIndex,
    is_shard_folder,
    read_index,
    write_index,
)
from squeezenet.data.shards.keys import ending, sample_key
from squeezenet.data.shards.plan import MAX_PICTURE_BYTES, ShardPlan
from squeezenet.data.shards.processes import in_processes
from squeezenet.data.shards.scan import sha256_of
from squeezenet.errors import DataError, UsageError
from squeezenet.files import is_leftover, make_folder, remove_leftovers, write_atomically
from squeezenet.folder_lock import LOCK, FolderLock
from squeezenet.progress import Progress, SilentProgress
from squeezenet.sealed_files import (
    read_sealed,
    read_sealed_json,
    write_sealed,
    write_sealed_json,
)

_DONE = ".done"


@dataclass(frozen=True, kw_only=True)
class WrittenShards:
    """Finished shards, and the pictures that could not be opened, with the reason."""

    index: ShardIndex
    skipped: tuple[str, ...]


def write_shards(
    plan: ShardPlan,
    out: Path,
    *,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> WrittenShards:
    """Write the shards of a plan into the folder ``out``.

    ``out`` is new, empty, or has the same shards, finished or not. ``workers`` processes write a
    shard each; 0 writes in this process, None chooses.

    Raises:
        UsageError: see ``check_output``.
        DataError: no picture can be opened, or one cannot and ``strict`` is set.
        CheckpointError: another process writes into ``out``.
        OSError: ``out`` cannot be written.
    """
    progress = progress or SilentProgress()
    for message in plan.skipped:
        _report(message, strict, progress)
    check_output(out, plan)  # first without a lock: a folder that is refused is left as it is
    make_folder(out)
    with FolderLock(out):
        if check_output(out, plan):
            _remove_work_files(out, plan)
            progress.log(f"{out}: these shards are finished")
            return WrittenShards(index=read_index(out), skipped=plan.skipped)
        remove_leftovers(out)
        if not (out / UNFINISHED).exists():
            write_sealed_json(out / UNFINISHED, {"made_from": plan.made_from})
        parts = _write_all(plan, out, workers, strict, progress)
        skipped = (*plan.skipped, *(line for part in parts for line in part.skipped))
        if not any(part.shard.num_samples for part in parts):
            raise DataError(f"{plan.root}: none of the {len(plan.images)} pictures can be opened")
        index = ShardIndex(
            class_names=plan.images.class_names,
            shards=tuple(part.shard for part in parts),
            samples_N=np.concatenate([part.samples_N for part in parts]),
            made_from=plan.made_from,
        )
        write_index(out, index)
        _remove_work_files(out, plan)
    return WrittenShards(index=index, skipped=skipped)


def check_output(out: Path, plan: ShardPlan) -> bool:
    """Return whether the shards are finished; refuse a folder that has anything else.

    Raises:
        UsageError, DataError: says what was found.
    """
    if out.is_symlink() and not out.exists():
        raise UsageError(f"{out}: is a link to nothing, expected a folder for the shards")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file, expected a folder for the shards")
    if is_shard_folder(out):
        _require_same(out, read_index(out).made_from, plan)
        return True
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    if UNFINISHED in names:
        found = read_sealed_json(out / UNFINISHED)
        if found is None:
            raise UsageError(f"{out / UNFINISHED}: is damaged; choose another folder")
        _require_same(out, found.get("made_from"), plan)
    elif any(name != LOCK and not is_leftover(name) for name in names):
        raise UsageError(f"{out}: is not empty and holds no shards; choose another folder")
    for name in (*plan.names, INDEX, TABLE):
        if (out / name).is_symlink():
            raise UsageError(f"{out / name}: is a symbolic link, expected the file itself")
    return False


def _remove_work_files(out: Path, plan: ShardPlan) -> None:
    """Remove what only unfinished shards need; the mark that they are ours comes last."""
    if (out / UNFINISHED).exists():
        for name in (*(name + _DONE for name in plan.names), UNFINISHED):
            (out / name).unlink(missing_ok=True)


def _require_same(out: Path, made_from: object, plan: ShardPlan) -> None:
    if made_from != plan.made_from:
        raise UsageError(
            f"{out}: holds shards of other pictures, or of another --seed or --shard-size; choose "
            "another folder"
        )


def _report(message: str, strict: bool, progress: Progress) -> None:
    if strict:
        raise DataError(message)
    progress.log(f"skipped {message}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """A shard to write: its path, and the path, key and label of each picture."""

    path: Path
    pictures: tuple[tuple[Path, str, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What the index says of one shard, and what was skipped."""

    shard: Shard
    samples_N: Samples
    skipped: tuple[str, ...]


def _jobs(plan: ShardPlan, out: Path) -> Iterator[_Job]:
    images = plan.images
    starts = [0, *plan.ends_S[:-1].tolist()]
    for name, start, end in zip(plan.names, starts, plan.ends_S.tolist(), strict=True):
        pictures = []
        for i in plan.order_N[start:end].tolist():
            label = int(images.labels[i])
            key = sample_key(images.class_names[label], images.paths[i], i, len(images))
            pictures.append((images.paths[i], key, label))
        yield _Job(path=out / name, pictures=tuple(pictures))


def _write_all(
    plan: ShardPlan,
    out: Path,
    workers: int | None,
    strict: bool,
    progress: Progress,
) -> list[_Part]:
    parts: list[_Part] = []
    total = len(plan.order_N)
    with progress.task(f"shard {out.name}", total=total, unit="img") as task:
        for part in in_processes(_write_shard, _jobs(plan, out), len(plan.ends_S), workers):
            for message in part.skipped:
                _report(message, strict, progress)
            parts.append(part)
            task.advance(part.shard.num_samples + len(part.skipped), part.shard.name)
    return parts


class _CountingFile:
    """A file that is written once, from beginning to end: its bytes and SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.num_bytes = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)


def _write_shard(job: _Job) -> _Part:
    """Write a shard, or return what is known of one that is written.

    Its part of the index is there before the shard has its name: a shard without it is not ours.
    """
    part = _read_part(job.path)
    if job.path.exists():
        if part is not None and sha256_of(job.path) == part.shard.sha256:
            return part
        raise UsageError(
            f"{job.path}: was written or changed by somebody else and would be replaced; remove "
            "it, or choose another folder"
        )

    def write(file: BinaryIO) -> None:
        nonlocal part
        part = _fill(file, job)
        _write_part(job.path, part)

    write_atomically(job.path, write)
    assert part is not None
    return part


def _fill(file: BinaryIO, job: _Job) -> _Part:
    from webdataset import TarWriter

    counting = _CountingFile(file)
    samples: list[tuple[int, int, int, int]] = []
    skipped = []
    with TarWriter(cast(Any, counting), user="", group="", mtime=0, encoder=False) as tar:
        for path, key, label in job.pictures:
            try:
                content = path.read_bytes()
            except OSError as error:
                skipped.append(f"{path}: cannot be opened ({error.strerror})")
                continue
            if not 0 < len(content) <= MAX_PICTURE_BYTES:
                skipped.append(f"{path}: is empty, or over 4 GB")
                continue
            tar.write({"__key__": key, "cls": str(label).encode()})
            tar.write({"__key__": key, ending(path, content): content})
            # A header has one block or several, but the content ends where the next one begins.
            offset = tar.tarstream.offset - -(-len(content) // 512) * 512
            samples.append((offset, len(content), label, zlib.crc32(content)))
            tar.tarstream.members = []  # which would otherwise keep a description of each
    shard = Shard(
        name=job.path.name,
        num_samples=len(samples),
        num_bytes=counting.num_bytes,
        sha256=counting.sha256.hexdigest(),
    )
    return _Part(shard=shard, samples_N=np.array(samples, SAMPLE), skipped=tuple(skipped))


def _write_part(path: Path, part: _Part) -> None:
    head = {"num_bytes": part.shard.num_bytes, "sha256": part.shard.sha256, "skipped": part.skipped}
    content = json.dumps(head).encode() + b"\n" + part.samples_N.tobytes()
    write_sealed(path.with_name(path.name + _DONE), lambda file: file.write(content))


def _read_part(path: Path) -> _Part | None:
    """Return what ``_write_part`` wrote; None if it is damaged or not there."""
    content = read_sealed(path.with_name(path.name + _DONE))
    if content is None:
        return None
    head, _, table = content.partition(b"\n")
    found = json.loads(head)
    samples_N = np.frombuffer(table, SAMPLE)
    shard = Shard(
        name=path.name,
        num_samples=len(samples_N),
        num_bytes=found["num_bytes"],
        sha256=found["sha256"],
    )
    return _Part(shard=shard, samples_N=samples_N, skipped=tuple(found["skipped"]))
