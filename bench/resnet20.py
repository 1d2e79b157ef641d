"""ResNet-20 on CIFAR-10, compressed by NNCodec, beside files of ours.

    python bench/resnet20.py cifar10 --work resnet20 [--ours FILE.sqz ...]

Trains ResNet-20 (He et al., arXiv 1512.03385, section 4.2; identity shortcuts, 269,722 parameters)
by a plain loop on all of ``cifar10/train``, folds its batch normalisation, codes it by NNCodec
(ISO/IEC 15938-17) at several qp without retraining, and measures top-1 on ``cifar10/test``. Files
given by --ours are measured on the same images, and each is set beside NNCodec's ResNet-20 at equal
bytes, interpolated. NNCodec's files have weights alone. A second call resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commands import squeezenet
from nncodec_environment import code
from PIL import Image
from torch import nn
from torch.nn import functional

from squeezenet.train.hardware import choose_hardware

_QPS = (-36, -33, -30, -28, -26, -24, -22, -20, -18, -16)
_WIDTHS = (16, 32, 64)
_BLOCKS = 3
_SHIFT = 4
_MEAN, _STD = 118.0, 64.0
"""Of all channels alike, in pixel levels."""
_EVAL_BATCH = 500


class Block(nn.Module):
    """Two 3x3 convolutions with an identity shortcut; new channels of the shortcut are zero."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = 1 if channels == out_channels else 2
        self.more = out_channels - channels
        self.conv1 = nn.Conv2d(channels, out_channels, 3, self.stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        shortcut = functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more)
        )
        return torch.relu(y + shortcut)


class ResNet20(nn.Module):
    """(N, 3, 32, 32) -> logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, _WIDTHS[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(_WIDTHS[0])
        widths = [_WIDTHS[0], *(width for width in _WIDTHS for _ in range(_BLOCKS))]
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in itertools.pairwise(widths)))
        self.linear = nn.Linear(_WIDTHS[-1], 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.norm(self.conv(x))))
        return torch.as_tensor(self.linear(x.mean((2, 3))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--work", type=Path, required=True, help="folder for files and results")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.2)
    parser.add_argument("--ours", type=Path, nargs="*", default=[], help=".sqz files to compare")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    test = _images(options.data, "test", options.work)
    model = _trained(options)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}")
    points = _points(model, test, options)
    print("| network | bytes | top-1 |\n|---|--:|--:|")
    for point in points:
        print(f"| ResNet-20, {point['name']} | {point['bytes']:,} | {point['top1']:.2f} |")
    for file in options.ours:
        measured = squeezenet("eval", file, options.data)
        size = file.stat().st_size
        beside = _at(points, size)
        top1 = f"{measured['top1']:.2f} (ResNet-20 at equal bytes: {beside})"
        print(f"| {file.name} | {size:,} | {top1} |")


def _images(data: Path, part: str, work: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels, uint8 (N, 3, 32, 32), and classes; decoded once."""
    cache = work / f"{part}.npz"
    if not cache.is_file():
        classes = sorted(path.name for path in (data / part).iterdir())
        files = [
            (f, k) for k, name in enumerate(classes) for f in sorted((data / part / name).iterdir())
        ]
        pixels = np.stack([np.asarray(Image.open(f).convert("RGB")) for f, _ in files])
        whole = cache.with_name(f"new-{cache.name}")
        np.savez(whole, pixels=pixels, labels=np.array([k for _, k in files]))
        whole.replace(cache)
    with np.load(cache) as found:
        return torch.from_numpy(found["pixels"].transpose(0, 3, 1, 2).copy()), torch.from_numpy(
            found["labels"]
        )


def _trained(options: argparse.Namespace) -> ResNet20:
    """SGD with Nesterov's momentum, one cosine after a warm-up, mirrored and shifted images."""
    torch.manual_seed(0)
    model = ResNet20()
    checkpoint = options.work / "resnet20.pt"
    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    done = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["epoch"]
    if done < options.epochs:
        pixels, labels = _images(options.data, "train", options.work)
        hardware = choose_hardware("cpu")
        for epoch in range(done, options.epochs):
            loss = _epoch(model, optimizer, pixels, labels, epoch, options, hardware.bfloat16)
            state = {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1
            }  # fmt: skip
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            print(f"epoch {epoch + 1} of {options.epochs}: loss {loss:.3f}", flush=True)
    model.eval()
    return model


def _epoch(
    model: ResNet20,
    optimizer: torch.optim.Optimizer,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    epoch: int,
    options: argparse.Namespace,
    bfloat16: bool,
) -> float:
    model.train()
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(len(labels), generator=generator)
    batches = torch.split(order, options.batch_size)[:-1]
    total = 0.0
    for step, chosen in enumerate(batches):
        done = (epoch + step / len(batches)) / options.epochs
        warm = min(1.0, done * options.epochs)
        for group in optimizer.param_groups:
            group["lr"] = warm * options.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        x = _augmented(pixels[chosen], generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(x)
        loss = functional.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        total += float(loss.detach())
    return total / len(batches)


def _augmented(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images, and shift each by up to 4 pixels."""
    x = _normalised(pixels)
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x[mirrored] = x[mirrored].flip(3)
    padded = functional.pad(x, (_SHIFT,) * 4)
    places = torch.randint(2 * _SHIFT + 1, (len(x), 2), generator=generator).tolist()
    side = x.shape[-1]
    shifted = [padded[i, :, a : a + side, b : b + side] for i, (a, b) in enumerate(places)]
    return torch.stack(shifted).to(memory_format=torch.channels_last)


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() - _MEAN) / _STD


def _points(
    model: ResNet20, test: tuple[torch.Tensor, torch.Tensor], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The network in float32 and at every qp: name, bytes, top-1."""
    weights = _folded(model)
    digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights.values())).hexdigest()
    results = options.work / f"results-{digest[:16]}.json"
    if results.is_file():
        known: list[dict[str, Any]] = json.loads(results.read_text())
        return known
    file, out = options.work / "weights.npz", options.work / "nncodec"
    arrays: dict[str, Any] = {name: value.numpy() for name, value in weights.items()}
    np.savez(file, **arrays)
    size = 4 * sum(value.numel() for value in weights.values())
    points = [{"name": "float32", "bytes": size, "top1": _top1(weights, test)}]
    code(file, out, _QPS, options.work / "nncodec-env")
    for qp in _QPS:
        with np.load(out / f"qp{qp}.npz") as found:
            decoded = {
                name: torch.from_numpy(found[name].astype(np.float32)).reshape(value.shape)
                for name, value in weights.items()
            }
        size = (out / f"qp{qp}.nnc").stat().st_size
        points.append({"name": f"NNCodec, qp {qp}", "bytes": size, "top1": _top1(decoded, test)})
    results.write_text(json.dumps(points))
    return points


def _folded(model: ResNet20) -> dict[str, torch.Tensor]:
    """Weights and biases with batch normalisation folded in, by the names of the layers."""
    found = {"linear.weight": model.linear.weight, "linear.bias": model.linear.bias}
    pairs = [("conv", model.conv, model.norm)]
    for i, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        pairs += [
            (f"block{i}.{n}", getattr(block, f"conv{n}"), getattr(block, f"norm{n}"))
            for n in (1, 2)
        ]
    for name, conv, norm in pairs:
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        found[f"{name}.weight"] = conv.weight * scale[:, None, None, None]
        found[f"{name}.bias"] = norm.bias - norm.running_mean * scale
    return {name: value.detach().contiguous() for name, value in found.items()}


@torch.inference_mode()
def _top1(weights: dict[str, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Top-1 of folded weights, in percent."""
    correct = 0
    batches = (torch.split(each, _EVAL_BATCH) for each in test)
    for images, classes in zip(*batches, strict=True):
        x = torch.relu(_convolved(_normalised(images), weights, "conv", 1))
        channels = _WIDTHS[0]
        for i in range(len(_WIDTHS) * _BLOCKS):
            width = _WIDTHS[i // _BLOCKS]
            stride = 1 if width == channels else 2
            shortcut = functional.pad(
                x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, width - channels)
            )
            y = torch.relu(_convolved(x, weights, f"block{i}.1", stride))
            x = torch.relu(_convolved(y, weights, f"block{i}.2", 1) + shortcut)
            channels = width
        logits = functional.linear(x.mean((2, 3)), weights["linear.weight"], weights["linear.bias"])
        correct += int((logits.argmax(1) == classes).sum())
    return 100 * correct / len(test[1])


def _convolved(
    x: torch.Tensor, weights: dict[str, torch.Tensor], name: str, stride: int
) -> torch.Tensor:
    return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, 1)


def _at(points: list[dict[str, Any]], size: int) -> str:
    """Top-1 of NNCodec's files at a size, interpolated over the logarithm of bytes."""
    coded = sorted((math.log(p["bytes"]), p["top1"]) for p in points if p["name"] != "float32")
    sizes, accuracies = zip(*coded, strict=True)
    if not sizes[0] <= math.log(size) <= sizes[-1]:
        return "not measured"
    return f"{np.interp(math.log(size), sizes, accuracies):.2f}"


if __name__ == "__main__":
    main()
