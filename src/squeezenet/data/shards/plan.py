"""Which picture goes into which shard: a function of names, sizes, classes and options.

Legend: N pictures, S shards.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.errors import DataError, UsageError
from squeezenet.images.sets import FolderImages, Labels
from squeezenet.progress import Progress, SilentProgress

DEFAULT_SHARD_BYTES = 1 << 28
"""ImageNet's training set in 550 shards: few enough to list, small enough to download again."""
MIN_SHARD_BYTES = 1 << 12
MAX_PICTURE_BYTES = (1 << 32) - 1
"""The index has 32 bits for it."""
_STEP = 1000
"""Pictures between two reports of progress."""
_TAR_OVERHEAD = 2048
"""Bytes of a sample besides the picture: two headers and the block of the class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardPlan:
    """Which pictures go into which shard: ``order_N``, indices of ``images``, cut at ``ends_S``.

    ``images`` are under the folder ``root``. ``made_from``: hash of names, sizes, classes and
    options. ``skipped``: a line for each picture that cannot be opened.
    """

    images: FolderImages
    root: Path
    order_N: Labels
    ends_S: Labels
    made_from: str
    skipped: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The shards' names, as webdataset's ``shard-{000000..000041}.tar`` lists them."""
        return [f"shard-{k:06}.tar" for k in range(len(self.ends_S))]


def plan_shards(
    images: FolderImages,
    root: Path,
    *,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    seed: int = 0,
    progress: Progress | None = None,
) -> ShardPlan:
    """Shuffle pictures over shards of about ``shard_bytes``; opens none of them.

    Raises:
        UsageError: shards would be too small.
        DataError: there is no picture that can be opened.
    """
    if shard_bytes < MIN_SHARD_BYTES:
        raise UsageError(
            f"--shard-size of {shard_bytes} bytes, expected {MIN_SHARD_BYTES} or more, such as 256M"
        )
    head = [1, seed, shard_bytes, images.class_names]
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(images.labels.astype("<i8").tobytes())
    sizes_N, skipped = _sizes(images, root, progress or SilentProgress())
    for path, size in zip(images.paths, sizes_N, strict=True):
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
    order_N = np.random.default_rng(seed).permutation(len(images))
    order_N = order_N[sizes_N[order_N] >= 0]
    if not len(order_N):
        raise DataError(f"{root}: none of the {len(images)} pictures can be opened ({skipped[0]})")
    after_N = np.cumsum(sizes_N[order_N] + _TAR_OVERHEAD)
    num_bytes = int(after_N[-1])
    num_shards = -(-num_bytes // shard_bytes)
    # Shards of equal size, not a small last one; one that a large picture would leave empty is not.
    cuts_S = np.arange(1, num_shards) * (num_bytes / num_shards)
    ends_S = np.unique(np.append(np.searchsorted(after_N, cuts_S, side="right"), len(order_N)))
    return ShardPlan(
        images=images,
        root=root,
        order_N=order_N,
        ends_S=ends_S[ends_S > 0],
        made_from=digest.hexdigest(),
        skipped=tuple(skipped),
    )


def _sizes(images: FolderImages, root: Path, progress: Progress) -> tuple[Labels, list[str]]:
    """Return the bytes of each picture, -1 where there are none to use, and the reasons."""
    sizes_N = np.full(len(images), -1, np.int64)
    skipped = []
    with progress.task(f"look at {root.name}", total=len(images), unit="img") as task:
        for i, path in enumerate(images.paths):
            try:
                size = path.stat().st_size
            except OSError as error:
                skipped.append(f"{path}: cannot be opened ({error.strerror})")
                continue
            if not 0 < size <= MAX_PICTURE_BYTES:
                skipped.append(f"{path}: is empty" if not size else f"{path}: has over 4 GB")
                continue
            sizes_N[i] = size
            if i % _STEP == _STEP - 1:
                task.advance(_STEP)
    return sizes_N, skipped
