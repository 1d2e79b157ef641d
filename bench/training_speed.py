"""How fast do we train beside a plain PyTorch loop, and beside timm's settings?

    python bench/training_speed.py ../shared/data
    python bench/training_speed.py ../shared/data --device cuda --only steps

Training steps, in images per second, on batches and micro-batches of the recipe's size:

- ours: from the uint8 batch that the loader yields to new weights, as ``squeezenet train`` does it:
  colours, normalisation, forward and backward passes, clipping, optimiser, moving average.
- plain: float32, contiguous NCHW, torch's SGD. The batch is there as normalised floats, and there
  is no colour jitter, clipping or average: less work than ours.
- autocast: the same in bfloat16 with channels-last, which is timm's ``--amp --channels-last
  --amp-dtype bfloat16``. As there, the batch is converted to channels-last in each step.

All three compute the same network, loss and number of images at a time.

The input pipeline, in images per second, from JPEG files to normalised floats with as many worker
processes and the same random rectangles and flips:

- ours: ``iter_train_batches`` and ``augment_batch``, without colour jitter.
- Pillow: torch's DataLoader; each image is opened, converted to RGB, cropped, resized by Pillow
  (bilinear), mirrored by chance, converted to a tensor and normalised: torchvision's transforms
  RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize, written out.

The pictures are ``imagenet-val500`` (299 pixels) and photographs enlarged to 2,000 pixels.

Each contender is a process of its own with the allocator and thread settings that it would have,
and they take turns A B C A B C. Ratios are medians over the turns, by the clock and by the time
that processors spent on a contender and its workers. Other work on the machine slows them all by
the clock, and not equally: two threads wait for each other, see docs/experiments/training.md. The
processor time of steps counts only with ``--threads 1``, as torch's threads wait busily.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from squeezenet.arch.preprocessing import Preprocessing, default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.data.augment import Augmentation, augment_batch
from squeezenet.data.loader import iter_train_batches
from squeezenet.images.bad import BadImages
from squeezenet.images.sets import FolderImages
from squeezenet.model.init import initialise
from squeezenet.model.network import build_module
from squeezenet.train.hardware import choose_hardware, keep_freed_memory
from squeezenet.train.recipe import Recipe, default_recipe
from squeezenet.train.train_state import TrainState

NETWORKS = ("squeezenet1_1", "squeezenet_cifar")
PICTURES = ("2000", "299")
"""Long sides in pixels."""
_TARGETS = {
    ("squeezenet1_1", "plain"): 3.0, ("squeezenet1_1", "autocast"): 1.25,
    ("squeezenet_cifar", "plain"): 2.5, ("squeezenet_cifar", "autocast"): 1.15,
    ("2000", "Pillow"): 1.5, ("299", "Pillow"): 1.2,
}  # fmt: skip
"""Times the peer's images per second; steps on a CPU that multiplies in bfloat16."""
_WARM_UPS = 1
_NUM_LARGE, _LARGE_SIDE = 96, 2000
_BATCH = 64
"""Images per batch of the input pipelines."""

Turn = Callable[[], tuple[int, float, float]]
"""Do some work; return the number of images, and the seconds that count: by the clock, of cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with photos and imagenet-val500")
    parser.add_argument("--only", choices=("steps", "pipeline"))
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--pictures", nargs="*", choices=PICTURES, default=PICTURES)
    parser.add_argument("--device", default="cpu", help="of the steps: cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's, of the steps")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the pipelines")
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    print(_description(options), flush=True)
    common = {"threads": options.threads, "device": options.device}
    if options.only != "pipeline":
        for name in options.networks:
            plan = {"network": name, **common}
            title = f"{name}, training step, {options.threads} threads"
            race(title, ("ours", "plain", "autocast"), plan, name, options.turns)
    if options.only != "steps":
        with tempfile.TemporaryDirectory() as folder:
            for key in options.pictures:
                source = options.shared / "imagenet-val500"
                if key != "299":
                    source = enlarge(options.shared / "photos", Path(folder))
                plan = {"pictures": str(source), "workers": options.workers, "threads": 1}
                title = f"pictures of {key} pixels, input pipeline, {options.workers} workers"
                race(title, ("ours", "Pillow"), plan, key, options.turns)


def _description(options: argparse.Namespace) -> str:
    here = str(Path(__file__).parent)
    git = ["git", "-C", here, "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "CPU")
    hardware = choose_hardware(options.device)
    multiplies = "multiplies" if hardware.bfloat16 else "does NOT multiply (targets do not apply)"
    if hardware.device.type == "cuda":
        cpu += f", {torch.cuda.get_device_name()}"
    return (
        f"{cpu}, {os.cpu_count()} cores, {options.device} {multiplies} in bfloat16; load before "
        f"{os.getloadavg()[0]:.1f}; Python {platform.python_version()}, torch "
        f"{torch.__version__}, Pillow {PIL.__version__}, commit {commit}; {_WARM_UPS} warm-up, "
        f"{options.turns} turns, median and quartiles"
    )


def enlarge(photos: Path, out: Path) -> Path:
    """Write photographs as JPEGs with a long side of ``_LARGE_SIDE`` pixels; return the folder."""
    files = sorted(photos.rglob("*.jpg"))
    for i, file in enumerate(files[:: max(1, len(files) // _NUM_LARGE)][:_NUM_LARGE]):
        with Image.open(file) as image:
            scale = _LARGE_SIDE / max(image.size)
            size = round(image.width * scale), round(image.height * scale)
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        large.save(out / f"{i:03}.jpg", quality=90)
    return out


def race(title: str, names: tuple[str, ...], plan: dict[str, Any], key: str, turns: int) -> None:
    """Let the contenders take turns and print a table."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    core_rates: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        contenders = {
            name: stack.enter_context(Contender({**plan, "contender": name})) for name in names
        }
        for turn in range(-_WARM_UPS, turns):
            for name, contender in contenders.items():
                images, seconds, core_seconds = contender.turn()
                if turn >= 0:
                    rates[name].append(images / seconds)
                    core_rates[name].append(images / core_seconds)
    print(f"\n{title}; load of the machine {os.getloadavg()[0]:.1f}, this included\n")
    print("| | images/s | quartiles | ours / it | by processor time | target |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, found in rates.items():
        low, middle, high = statistics.quantiles(found, n=4)
        ratios = [ratio(rates["ours"], found), ratio(core_rates["ours"], core_rates[name])]
        by_clock, by_core = (f"{each:.2f}" if name != "ours" else "-" for each in ratios)
        target = _TARGETS.get((key, name), "-")
        columns = f"{middle:.1f} | {low:.1f} .. {high:.1f} | {by_clock} | {by_core} | {target}"
        print(f"| {name} | {columns} |")
    sys.stdout.flush()


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median ratio of rates of the same turns."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


class Contender:
    """A process that does one turn whenever it is asked to."""

    def __init__(self, plan: dict[str, Any]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(plan["threads"])}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--contender", json.dumps(plan)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()  # its stdin is at an end, so it leaves

    def turn(self) -> tuple[int, float, float]:
        """Return the number of images, and the seconds that they took by the clock and of cores."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a contender has failed, see above")
        images, seconds, core_seconds = json.loads(line)
        return images, seconds, core_seconds


def contend(plan: dict[str, Any]) -> None:
    """Be a contender: a turn for each line of stdin."""
    torch.set_num_threads(plan["threads"])
    make = make_pipeline if "pictures" in plan else make_step
    turn = make(plan)
    for _ in sys.stdin:
        print(json.dumps(turn()), flush=True)


def make_step(plan: dict[str, Any]) -> Turn:
    """Return a turn of one training step."""
    spec = preset(plan["network"])
    recipe = default_recipe("", input_size=spec.input_size)
    spec = dataclasses.replace(spec, batch_norm=recipe.batch_norm)
    module = build_module(spec)
    initialise(module, spec, recipe.init, 0)
    generator = torch.Generator().manual_seed(0)
    shape = (recipe.batch_size, *spec.input_size, spec.input_channels)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, spec.num_classes, shape[:1], generator=generator)
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    preprocessing = default_preprocessing(spec)
    device = torch.device(plan["device"])
    if plan["contender"] == "ours":
        step = our_step(module, recipe, preprocessing, loss, pixels, labels, device)
    else:
        plain = dataclasses.replace(recipe.augmentation, colour=0.0, cutout=0.0)
        x_NCHW = augment_batch(pixels, plain, preprocessing, 0).contiguous()
        amp = plan["contender"] == "autocast"
        step = plain_step(module, recipe, loss, x_NCHW, labels, device, amp)

    def turn() -> tuple[int, float, float]:
        start, core_start = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return len(labels), time.perf_counter() - start, time.process_time() - core_start

    return turn


def our_step(
    module: nn.Module, recipe: Recipe, preprocessing: Preprocessing, loss: nn.Module,
    pixels: torch.Tensor, labels: torch.Tensor, device: torch.device,
) -> Callable[[], object]:  # fmt: skip
    """Return the step of ``train/fit.py``, of full size."""
    if device.type == "cpu":
        keep_freed_memory()
    state = TrainState(module, recipe, choose_hardware(str(device)))

    def loss_fn(
        logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        mean: torch.Tensor = loss(logits_NK.float(), labels)
        return mean

    def step() -> None:
        state.set_learning_rate_factor(0.01)
        on_device = pixels.to(device, non_blocking=True)
        x_NCHW = augment_batch(on_device, recipe.augmentation, preprocessing, state.step)
        on_device_labels = labels.to(device, non_blocking=True)
        mean = state.compute_gradients(x_NCHW, on_device_labels, loss_fn, len(labels))
        state.update(mean, None)
        state.step += 1

    return step


def plain_step(
    module: nn.Module, recipe: Recipe, loss: nn.Module, x_NCHW: torch.Tensor,
    labels: torch.Tensor, device: torch.device, amp: bool,
) -> Callable[[], object]:  # fmt: skip
    """Return the step of a loop as everybody writes it; with ``amp``, as timm does."""
    order = torch.channels_last if amp else torch.contiguous_format
    module = module.to(device).to(memory_format=order).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.01 * recipe.learning_rate, momentum=recipe.momentum,
        nesterov=recipe.nesterov, weight_decay=recipe.weight_decay,
    )  # fmt: skip

    def step() -> None:
        x = x_NCHW.to(device, non_blocking=True).contiguous(memory_format=order)
        y = labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        for start in range(0, len(y), recipe.micro_batch):
            part = slice(start, start + recipe.micro_batch)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
                mean = loss(module(x[part]), y[part])
            (mean * (len(y[part]) / len(y))).backward()
        optimizer.step()

    return step


def make_pipeline(plan: dict[str, Any]) -> Turn:
    """Return a turn of some batches. What the workers had made before the turn is not counted."""
    paths = tuple(sorted(Path(plan["pictures"]).rglob("*.jpg")))
    spec = preset("squeezenet1_1")
    augmentation = dataclasses.replace(
        default_recipe("", input_size=spec.input_size).augmentation, colour=0.0
    )
    preprocessing = default_preprocessing(spec)
    make = our_batches if plan["contender"] == "ours" else pillow_batches
    batches = make(paths, augmentation, preprocessing, plan["workers"])
    ready = 2 * plan["workers"]  # batches that DataLoader's workers make ahead

    def turn() -> tuple[int, float, float]:
        for _ in range(ready):
            next(batches)
        start, core_start = time.perf_counter(), core_seconds()
        images = sum(len(next(batches)) for _ in range(max(2, 2 * ready)))
        found = images, time.perf_counter() - start, core_seconds() - core_start
        wait_until_idle()
        return found

    return turn


def wait_until_idle() -> None:
    """Wait until the workers have made all batches ahead, or they would disturb the next turn."""
    last = -1.0
    while core_seconds() > last + 0.02:
        last = core_seconds()
        time.sleep(0.3)


def core_seconds() -> float:
    """Return the processor time of this process and its workers so far; without Linux, its own."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    total = time.process_time()
    for child in children.read_text().split() if children.exists() else []:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def our_batches(
    paths: tuple[Path, ...], augmentation: Augmentation, preprocessing: Preprocessing, workers: int
) -> Iterator[torch.Tensor]:
    """Yield normalised batches of ours; the training loop keeps freed memory too."""
    keep_freed_memory()
    images = FolderImages(paths=paths, labels=np.zeros(len(paths), np.int64), class_names=("a",))
    for batch in iter_train_batches(
        images, preprocessing, augmentation, batch_size=_BATCH, seed=0, first_step=0,
        last_step=1 << 40, workers=workers, bad=BadImages(),
    ):  # fmt: skip
        yield augment_batch(batch.pixels_NHWC, augmentation, preprocessing, batch.step)


class UsualTransforms(Dataset[tuple[torch.Tensor, int]]):
    """RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize on Pillow images."""

    def __init__(
        self, paths: tuple[Path, ...], augmentation: Augmentation, preprocessing: Preprocessing
    ) -> None:
        self._paths = paths
        self._augmentation = augmentation
        self._preprocessing = preprocessing
        self._mean = torch.tensor(preprocessing.mean)[:, None, None] / 255
        self._std = torch.tensor(preprocessing.std)[:, None, None] / 255

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with self._paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        left, top, width, height = self._rectangle(image.width, image.height)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize(self._preprocessing.crop[::-1], Image.Resampling.BILINEAR)
        if self._augmentation.flip and torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x_CHW = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return x_CHW.to(torch.float32).div(255).sub_(self._mean).div_(self._std), 0

    def _rectangle(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height, as torchvision draws them."""
        log_ratio = np.log(self._augmentation.max_aspect)
        for _ in range(10):
            area = width * height * float(torch.empty(1).uniform_(self._augmentation.min_area, 1))
            ratio = float(torch.exp(torch.empty(1).uniform_(-log_ratio, log_ratio)))
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(0, height - h + 1, size=(1,)))
                return int(torch.randint(0, width - w + 1, size=(1,))), top, w, h
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side


def pillow_batches(
    paths: tuple[Path, ...], augmentation: Augmentation, preprocessing: Preprocessing, workers: int
) -> Iterator[torch.Tensor]:
    """Yield normalised batches of torch's DataLoader with the usual transforms."""
    images = UsualTransforms(paths, augmentation, preprocessing)
    loader = DataLoader(
        images, batch_size=_BATCH, num_workers=workers,
        sampler=RandomSampler(images, num_samples=1 << 24),
    )  # fmt: skip
    for x_NCHW, _ in loader:
        yield x_NCHW


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        contend(json.loads(sys.argv[2]))
    else:
        main()
