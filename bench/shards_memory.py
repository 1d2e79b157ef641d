"""Does memory stay flat while shards of any size go through the pipeline and a network?

    python bench/shards_memory.py --work shards --gigabytes 10
    python bench/shards_memory.py --work shards --small-images 1000000

Writes synthetic shards into the folder --work (kept, and used again), reads every image once as
training does, with worker processes, and trains the smallest network on it. Resident memory of this
process and its workers is read from /proc, twice a second; that of the page cache is not in it.
Prints a table over time, images per second, and whether the second half is higher than the first;
draws it into --plot. What it measures is memory: the images per second are those of a network that
is small, and of pictures that are alike.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import tarfile
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.data.augment import Augmentation, augment_batch
from squeezenet.data.epochs import Epochs
from squeezenet.data.loader import iter_train_batches
from squeezenet.data.shards.images import open_shard_images
from squeezenet.data.shards.index import (
    SAMPLE,
    Shard,
    ShardIndex,
    is_shard_folder,
    read_index,
    write_index,
)
from squeezenet.data.shards.scan import sha256_of
from squeezenet.data.shards.storage import LocalShards
from squeezenet.images.bad import BadImages
from squeezenet.model.network import build_module

SHARD_BYTES = 256 << 20
NUM_CLASSES = 10
_PICTURES = 64
"""Different pictures, used again under other keys: encoding ten gigabytes would take an hour."""
_SECONDS_PER_SAMPLE = 0.5
_ROWS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for shards and the plot")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--gigabytes", type=float, help="photographs of 400 pixels, so many bytes")
    what.add_argument("--small-images", type=int, help="so many images of 32 pixels instead")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="picture to draw (default: in --work)")
    options = parser.parse_args()
    small = options.small_images is not None
    name = f"small-{options.small_images}" if small else f"gigabytes-{options.gigabytes:g}"
    folder = options.work / name
    if not is_shard_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if small:
            _write(folder, side=32, num_images=options.small_images)
        else:
            _write(folder, side=400, num_bytes=int(options.gigabytes * 1e9))
    index = read_index(folder)
    print(
        f"{len(index.samples_N):,} images in {len(index.shards)} shards, {index.num_bytes:,} bytes;"
        f" {options.workers} worker processes, batches of {options.batch_size}, "
        f"{options.epochs} epochs"
    )
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, "
        f"{platform.machine()}"
    )
    with Memory() as memory:
        num_images = _train(folder, options.batch_size, options.epochs, options.workers)
    _report(memory, num_images)
    plot = options.plot or options.work / f"{name}.png"
    _draw(memory, plot, f"{num_images:,} images, {index.num_bytes / 1e9:.1f} GB of shards")
    print(f"drawn: {plot}")


def _write(
    folder: Path, *, side: int, num_bytes: int | None = None, num_images: int | None = None
) -> None:
    """Write shards as ``squeezenet shard`` has them, from a few pictures."""
    rng = np.random.default_rng(0)
    pictures = []
    for i in range(_PICTURES):
        noise = rng.integers(0, 40, (side, side, 3), dtype=np.uint8)
        noise[..., i % 3] += np.linspace(0, 200, side, dtype=np.uint8)
        picture = io.BytesIO()
        Image.fromarray(noise).save(picture, "JPEG", quality=85)
        pictures.append(picture.getvalue())
    shards: list[Shard] = []
    tables = []
    done = done_bytes = 0
    while done < (num_images or 1 << 40) and done_bytes < (num_bytes or 1 << 60):
        path = folder / f"shard-{len(shards):06}.tar"
        samples: list[tuple[int, int, int, int]] = []
        with path.open("wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            while tar.offset < SHARD_BYTES and done < (num_images or 1 << 40):
                content, label = pictures[done % _PICTURES], done % NUM_CLASSES
                _add(tar, f"{label}/picture-{done:08}.cls", str(label).encode())
                _add(tar, f"{label}/picture-{done:08}.jpg", content)
                offset = tar.offset - -(-len(content) // 512) * 512
                samples.append((offset, len(content), label, zlib.crc32(content)))
                tar.members = []  # type: ignore[attr-defined]  # or it keeps them all
                done += 1
                if num_bytes and done_bytes + tar.offset >= num_bytes:
                    break
        size = path.stat().st_size
        done_bytes += size
        shards.append(
            Shard(name=path.name, num_samples=len(samples), num_bytes=size, sha256=sha256_of(path))
        )
        tables.append(np.array(samples, SAMPLE))
    index = ShardIndex(
        class_names=tuple(map(str, range(NUM_CLASSES))),
        shards=tuple(shards),
        samples_N=np.concatenate(tables),
    )
    write_index(folder, index)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _train(folder: Path, batch_size: int, epochs: int, workers: int) -> int:
    """Train the smallest network on every image; return how many there were."""
    spec = preset("squeezenet_tiny", num_classes=NUM_CLASSES, input_channels=3)
    preprocessing = torchvision_preprocessing(resize=spec.input_size[0], crop=spec.input_size)
    module = build_module(spec)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    images = open_shard_images(read_index(folder), LocalShards(folder))
    augmentation = Augmentation()
    num_images = 0
    steps = Epochs(num_images=len(images), batch_size=batch_size).num_steps(epochs)
    for batch in iter_train_batches(
        images,
        preprocessing,
        augmentation,
        batch_size=batch_size,
        seed=0,
        first_step=0,
        last_step=steps,
        workers=workers,
        bad=BadImages(strict=True),
    ):
        x_NCHW = augment_batch(batch.pixels_NHWC, augmentation, preprocessing, batch.step)
        loss = torch.nn.functional.cross_entropy(module(x_NCHW), batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        num_images += len(batch.labels)
    return num_images


class Memory:
    """Samples memory over time in a thread: ``seconds``, and megabytes of all processes.

    ``own`` is this process's resident memory, ``private`` that of all processes without what they
    share (proportional set size).
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.own: list[float] = []
        self.private: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stopped.wait(_SECONDS_PER_SAMPLE):
            found = [_memory(pid) for pid in (os.getpid(), *_children(os.getpid()))]
            self.seconds.append(time.monotonic() - started)
            self.own.append(found[0][0])
            self.private.append(sum(pss for _, pss in found))


def _memory(pid: int) -> tuple[float, float]:
    """Return a process's resident and proportional set size in megabytes; 0 if it has gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    fields = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    return int(fields["Rss"]) / 1024, int(fields["Pss"]) / 1024


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found + [grandchild for child in found for grandchild in _children_of(child)]


def _children_of(pid: int) -> list[int]:
    try:
        return _children(pid)
    except OSError:
        return []


def _report(memory: Memory, num_images: int) -> None:
    print("\n| seconds | this process, MB | all processes, MB |")
    print("|--:|--:|--:|")
    for i in range(0, len(memory.seconds), max(1, len(memory.seconds) // _ROWS)):
        print(f"| {memory.seconds[i]:.0f} | {memory.own[i]:.0f} | {memory.private[i]:.0f} |")
    # The start, when processes load their libraries, says nothing of what comes after.
    first = len(memory.seconds) // 5
    middle = (first + len(memory.seconds)) // 2
    early = float(np.median(memory.private[first:middle]))
    late = float(np.median(memory.private[middle:]))
    print(
        f"\n{num_images:,} images in {memory.seconds[-1]:.0f} s, "
        f"{num_images / memory.seconds[-1]:.0f} per second; all processes: peak "
        f"{max(memory.private):.0f} MB, median {early:.0f} MB, later {late:.0f} MB "
        f"({100 * (late / early - 1):+.1f}%)"
    )


def _draw(memory: Memory, path: Path, title: str) -> None:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(memory.seconds, memory.private, label="all processes (proportional)")
    axes.plot(memory.seconds, memory.own, label="training process (resident)")
    axes.set(xlabel="seconds", ylabel="MB", title=title, ylim=(0, None))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
