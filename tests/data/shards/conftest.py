"""Small sets of shards of colourful pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.data.shards.images import ShardImages, open_shard_images
from squeezenet.data.shards.index import read_index
from squeezenet.data.shards.plan import plan_shards
from squeezenet.data.shards.storage import LocalShards
from squeezenet.data.shards.write import write_shards
from squeezenet.images.folders import read_class_folders

MakeFolder = Callable[..., Path]
MakeShards = Callable[..., Path]


@pytest.fixture
def make_shards(image_folder: MakeFolder, tmp_path: Path) -> MakeShards:
    """Write shards of class folders: ``make_shards(a=12, b=9, shard_bytes=10_000)``."""

    def make(
        out: Path | None = None, *, shard_bytes: int = 12_000, seed: int = 0, **counts: int
    ) -> Path:
        root = tmp_path / "pictures"
        if not root.exists():
            image_folder(root, **(counts or {"a": 17, "b": 12, "c": 8}))
        out = out or tmp_path / "shards"
        plan = plan_shards(read_class_folders(root), root, shard_bytes=shard_bytes, seed=seed)
        write_shards(plan, out, workers=0)
        return out

    return make


def open_shards(folder: Path) -> ShardImages:
    return open_shard_images(read_index(folder), LocalShards(folder))
