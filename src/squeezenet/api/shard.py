"""``squeezenet.shard``: a folder of labelled images to WebDataset tar shards."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.api.class_names import Classes, class_labels
from squeezenet.api.options import require_seed, require_workers
from squeezenet.errors import UsageError
from squeezenet.extras import require_extra
from squeezenet.images.folders import SPLITS, beside_splits, find_splits, read_class_folders
from squeezenet.images.limits import parse_bytes
from squeezenet.images.walk import NOTHING, Findings, log_findings
from squeezenet.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from squeezenet.data.shards.index import ShardIndex
    from squeezenet.images.sets import FolderImages

DEFAULT_SHARD_SIZE = "256M"


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """Finished shards in the folder ``out``, of all its parts together.

    ``parts`` are the folders in it that have shards, such as ``train``; none if ``out`` itself has
    them. ``skipped`` counts pictures or samples that are not in the index, ``bytes`` those of the
    tars, and ``findings`` has the files of the data that are no pictures.
    """

    out: Path
    parts: tuple[str, ...]
    images: int
    shards: int
    bytes: int
    classes: int
    skipped: int
    findings: Findings


def shard(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shard_size: str = DEFAULT_SHARD_SIZE,
    seed: int = 0,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> ShardResult:
    """Write a folder of pictures as WebDataset tar shards with an index, for sets of any size.

    ``data`` is a folder of class folders, or of ``train/``, ``val/`` and ``test/`` with such
    folders; each part becomes a folder in ``out``. The files' bytes stay as they are; whether they
    can be decoded is not looked at. Pictures are shuffled over the shards by ``seed``. Shards have
    about ``shard_size`` bytes (``100M``, ``1G``). The same call goes on where it was interrupted,
    and gives the same bytes. ``strict``: fail on a picture that cannot be opened, not skip it.

    Shards are written in ``workers`` processes: a script that does not pass ``workers=0`` needs
    the usual ``if __name__ == "__main__"``.

    Raises:
        MissingExtraError: webdataset or another package of the extra ``train`` is not installed.
        UsageError: there is no such folder, or ``out`` has other files.
        DataError: there are no pictures, or none can be opened.
        CheckpointError: another process writes into ``out``.
        OSError: ``out`` cannot be written.
    """
    require_extra("train", "making shards")
    require_seed(seed)
    require_workers(workers)
    shard_bytes = parse_bytes(shard_size)
    if not shard_bytes:
        raise UsageError(f"--shard-size {shard_size!r}, expected a number of bytes, such as 256M")
    from squeezenet.data.shards.index import is_shard_folder
    from squeezenet.data.shards.plan import plan_shards
    from squeezenet.data.shards.write import check_output, write_shards

    progress = progress or SilentProgress()
    root, target = Path(data), Path(out)
    for folder in (root, *(root / part for part in SPLITS)):
        if is_shard_folder(folder):
            raise UsageError(f"{folder}: has shards already, expected a folder of pictures")
    sets, findings = _read(root)
    if target.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"{target}: is in {root}, where it would be a class; choose another folder"
        )
    plans = {
        part: plan_shards(images, folder, shard_bytes=shard_bytes, seed=seed, progress=progress)
        for part, (folder, images) in sets.items()
    }
    for part, plan in plans.items():
        check_output(target / part, plan)  # all of them before the work begins
    log_findings(findings, progress)
    written = [
        write_shards(plan, target / part, workers=workers, strict=strict, progress=progress)
        for part, plan in plans.items()
    ]
    return _result(
        target,
        tuple(part for part in sets if part),
        [each.index for each in written],
        sum(len(each.skipped) for each in written),
        findings,
    )


def index_shards(
    folder: str | os.PathLike[str],
    *,
    classes: Classes | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ShardResult:
    """Write the index for WebDataset tars that are there already, beside them.

    A sample has a picture and a file ``.cls`` with the number of its class. ``classes`` names the
    classes, as in ``open_model``; by default they are ``class0``, ``class1`` and so on. The tars
    are read once, and stay as they are.

    Raises:
        MissingExtraError: webdataset or another package of the extra ``train`` is not installed.
        UsageError: there is no such folder, or it has an ``index.json`` of another kind.
        DataError: a tar is damaged or compressed, or there are no samples of that form.
        OSError: the index cannot be written.
    """
    require_extra("train", "indexing shards")
    require_workers(workers)
    from squeezenet.data.shards.scan import index_folder

    labels = class_labels(classes)
    names = None
    if labels is not None:
        names = labels.names if len(set(labels.names)) == len(labels.names) else labels.ids
    index, unused = index_folder(Path(folder), names, workers=workers, progress=progress)
    notes = tuple(f"{folder}: {number:,} samples {reason}" for reason, number in unused.items())
    return _result(Path(folder), (), [index], unused.total(), Findings(notes=notes))


def _read(root: Path) -> tuple[dict[str, tuple[Path, FolderImages]], Findings]:
    """List the pictures of each part; the part "" is a folder without parts."""
    from squeezenet.data.sources import with_classes

    splits = find_splits(root)
    if not splits:
        images = read_class_folders(root)
        return {"": (root, images)}, images.findings
    findings = beside_splits(root, splits)
    sets: dict[str, tuple[Path, FolderImages]] = {}
    for part, folder in splits.items():
        images = read_class_folders(folder, allow_empty=part != "train")
        findings += images.findings
        if "train" in sets:  # a class has one number in all parts
            train_folder, train = sets["train"]
            images = with_classes(images, train.class_names, str(folder), str(train_folder))
        sets[part] = (folder, images)
    return sets, findings


def _result(
    out: Path,
    parts: tuple[str, ...],
    indices: list[ShardIndex],
    skipped: int,
    findings: Findings = NOTHING,
) -> ShardResult:
    return ShardResult(
        out=out,
        parts=parts,
        images=sum(len(index.samples_N) for index in indices),
        shards=sum(len(index.shards) for index in indices),
        bytes=sum(index.num_bytes for index in indices),
        classes=max(len(index.class_names) for index in indices),
        skipped=skipped,
        findings=findings,
    )
