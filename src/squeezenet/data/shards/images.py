"""The images of shards as an ``ImageSet``: read by offset, checked, and decoded on every access.

Any image can be read at any time, so the usual order of training holds: every image exactly once
per epoch, for any number of processes. ``epoch_order`` keeps images of a few shards together, so
that disks, caches and downloads work on a few shards at a time.
Legend: N images, S shards.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeezenet.data.shards.index import Shard, ShardIndex
from squeezenet.data.shards.storage import ShardReader, ShardStorage
from squeezenet.errors import ImageError
from squeezenet.images.bad import one_of_many
from squeezenet.images.decode import Pixels, read_image
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import Labels
from squeezenet.images.walk import NOTHING, Findings

WINDOW_SHARDS = 8
"""Shards whose images are shuffled together: 2 GB, 16,000 images of ImageNet, 16 of each class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardImages:
    """Images ``rows`` (int64) of an index, with ``labels`` (int64, one per row)."""

    index: ShardIndex
    reader: ShardReader
    rows: Labels
    labels: Labels
    class_names: tuple[str, ...]
    findings: Findings = NOTHING
    limits: ImageLimits = DEFAULT_LIMITS

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def checksums(self) -> npt.NDArray[np.uint64]:
        """A number per image that changes with its bytes: their number and CRC-32."""
        samples_N = self.index.samples_N[self.rows]
        sums_N = samples_N["size"].astype(np.uint64) << np.uint64(32) | samples_N["crc32"]
        return np.asarray(sums_N, np.uint64)

    def name(self, index: int) -> str:
        """Return the shard and the image's name in it, or its number where that is unreadable."""
        shard, number = self._place(index)
        member = self._member(shard, int(self.index.samples_N["offset"][self.rows[index]]))
        inside = f"/{member}" if member else f"[{number}]"
        return f"{self.reader.storage.title}/{shard.name}{inside}"

    def pixels(self, index: int, min_side: int | None = None) -> Pixels:
        """Decode one image; ``min_side`` is as in ``ImageSet``.

        Raises:
            ImageError: its shard is missing or damaged, or it cannot be decoded.
        """
        shard, number = self._place(index)
        sample = self.index.samples_N[self.rows[index]]
        num_bytes = int(sample["size"])
        if num_bytes > self.limits.max_memory:
            raise ImageError(
                f"{self.name(index)}: has {num_bytes:,} bytes, expected at most "
                f"{self.limits.max_memory:,}; --max-memory allows more"
            )
        try:
            place = (int(sample["offset"]), num_bytes)
            content = self.reader.read_sample(shard, *place, int(sample["crc32"]))
        except ImageError as error:
            where = f"{self.reader.storage.title}/{shard.name}"
            raise ImageError(one_of_many(where, str(error), str(number))) from None
        try:
            title = self._title(shard, number)
            return read_image(io.BytesIO(content), title, self.limits, min_side=min_side)
        except ImageError as error:
            # The name inside the shard is read only where it is shown.
            reason = str(error).removeprefix(self._title(shard, number))
            raise ImageError(f"{self.name(index)}{reason}") from None

    def shuffled(self, rng: np.random.Generator) -> Labels:
        """Shuffle the shards, and all images of each few shards (a window)."""
        shard_N = self.index.shard_of(self.rows)
        place_S = rng.permutation(len(self.index.shards))
        window_N = place_S[shard_N] // WINDOW_SHARDS
        order = rng.permutation(len(self))
        return order[np.argsort(window_N[order], kind="stable")]

    def epoch_order(self, rng: np.random.Generator) -> Labels:
        """Return ``shuffled``; the storage fetches the shards in that order."""
        order = self.shuffled(rng)
        met, first = np.unique(self.index.shard_of(self.rows[order]), return_index=True)
        shards = [self.index.shards[k] for k in met[np.argsort(first)].tolist()]
        self.reader.storage.expect(
            [shards[i : i + WINDOW_SHARDS] for i in range(0, len(shards), WINDOW_SHARDS)]
        )
        return order

    def few(self, count: int) -> Sequence[int]:
        """Return images of the first shard alone: it has a fair sample, and may be far away."""
        if not len(self):
            return ()
        shard_N = self.index.shard_of(self.rows)
        first = np.flatnonzero(shard_N == shard_N.min()).tolist()
        return first[:: max(1, len(first) // count)]

    def subset(
        self,
        indices: Sequence[int],
        labels: Labels | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> ShardImages:
        chosen = np.asarray(indices, np.int64)
        return ShardImages(
            index=self.index,
            reader=self.reader,
            rows=self.rows[chosen],
            labels=self.labels[chosen] if labels is None else labels,
            class_names=class_names or self.class_names,
            findings=self.findings,
            limits=self.limits,
        )

    def _place(self, index: int) -> tuple[Shard, int]:
        """Return the shard of an image, and the image's number in it."""
        row = self.rows[index]
        number = int(self.index.shard_of(row))
        shard = self.index.shards[number]
        return shard, int(row - (self.index.ends_S[number] - shard.num_samples))

    def _title(self, shard: Shard, number: int) -> str:
        return f"{self.reader.storage.title}/{shard.name}[{number}]"

    def _member(self, shard: Shard, offset: int) -> str | None:
        """Read an image's name from its header in the tar, the block before its bytes."""
        if offset < tarfile.BLOCKSIZE:
            return None
        try:
            block = self.reader.read(shard, offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
            return tarfile.TarInfo.frombuf(block, "utf-8", "replace").name
        except (ImageError, tarfile.TarError):
            return None


def open_shard_images(
    index: ShardIndex, storage: ShardStorage, limits: ImageLimits = DEFAULT_LIMITS
) -> ShardImages:
    """Return all images of an index."""
    return ShardImages(
        index=index,
        reader=ShardReader(storage),
        rows=np.arange(len(index.samples_N)),
        labels=index.samples_N["label"].astype(np.int64),
        class_names=index.class_names,
        limits=limits,
    )
