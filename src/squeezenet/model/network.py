"""The torch modules: Fire, SqueezeNet, AlexNet, with torchvision's state_dict keys.

``arch.graph`` is the same wiring as a list; the tests hold the two together.
Legend: N images, C channels, H W height and width, K classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from squeezenet.arch.graph import build_graph
from squeezenet.arch.spec import AlexNetSpec, FireSpec, NetworkSpec, PoolSpec, SqueezeNetSpec

_MIN_CLASSES_TO_POOL_FIRST = 100
"""With 1,000 classes conv10 is a seventh of v1.1's training step (measured). With few it is next to
nothing, and trainings repeat those of earlier versions bit for bit."""


def build_module(spec: NetworkSpec) -> nn.Module:
    """Return the network with torch's default weights; ``init`` has ours.

    Raises:
        SpecError: the spec's layers do not fit each other.
    """
    build_graph(spec)
    return SqueezeNet(spec) if isinstance(spec, SqueezeNetSpec) else AlexNet(spec)


class Fire(nn.Module):
    """The Fire module: a 1x1 squeeze, parallel 1x1 and 3x3 expands, and an optional bypass."""

    def __init__(self, in_channels: int, spec: FireSpec, *, batch_norm: bool) -> None:
        super().__init__()
        bias = not batch_norm

        def norm(channels: int) -> nn.Module:
            return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()

        self.squeeze = nn.Conv2d(in_channels, spec.s1x1, 1, bias=bias)
        self.squeeze_bn = norm(spec.s1x1)
        self.expand1x1 = nn.Conv2d(spec.s1x1, spec.e1x1, 1, bias=bias)
        self.expand1x1_bn = norm(spec.e1x1)
        self.expand3x3 = nn.Conv2d(spec.s1x1, spec.e3x3, 3, padding=1, bias=bias)
        self.expand3x3_bn = norm(spec.e3x3)
        self.kind = spec.bypass
        if spec.bypass == "conv":
            self.bypass = nn.Conv2d(in_channels, spec.out_channels, 1, bias=bias)
            self.bypass_bn = norm(spec.out_channels)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        squeezed = torch.relu(self.squeeze_bn(self.squeeze(x_NCHW)))
        out_NCHW = torch.cat(
            [
                torch.relu(self.expand1x1_bn(self.expand1x1(squeezed))),
                torch.relu(self.expand3x3_bn(self.expand3x3(squeezed))),
            ],
            dim=1,
        )
        if self.kind == "identity":
            return out_NCHW + x_NCHW
        if self.kind == "conv":
            return out_NCHW + torch.as_tensor(self.bypass_bn(self.bypass(x_NCHW)))
        return out_NCHW


def _max_pool(pool: PoolSpec) -> nn.Module:
    return nn.MaxPool2d(pool.kernel, pool.stride, ceil_mode=pool.ceil_mode)


class SqueezeNet(nn.Module):
    """(N, C, H, W) -> logits (N, K). ``features`` and ``classifier`` have torchvision's indices."""

    def __init__(self, spec: SqueezeNetSpec) -> None:
        super().__init__()
        stem, head = spec.stem, spec.head
        pools = {pool.after: pool for pool in spec.pools}
        features: OrderedDict[str, nn.Module] = OrderedDict()
        index = 0

        def append(module: nn.Module) -> None:
            nonlocal index
            features[str(index)] = module
            index += 1

        append(
            nn.Conv2d(
                spec.input_channels,
                stem.out_channels,
                stem.kernel,
                stem.stride,
                stem.padding,
                bias=not spec.batch_norm,
            )
        )
        if spec.batch_norm:  # named, so that the indices of the other layers stay torchvision's
            features["conv1_bn"] = nn.BatchNorm2d(stem.out_channels)
        append(nn.ReLU())
        if "conv1" in pools:
            append(_max_pool(pools["conv1"]))
        channels = stem.out_channels
        for name, fire in zip(spec.fire_names, spec.fires, strict=True):
            append(Fire(channels, fire, batch_norm=spec.batch_norm))
            channels = fire.out_channels
            if name in pools:
                append(_max_pool(pools[name]))
        self.features = nn.Sequential(features)
        conv10 = nn.Conv2d(channels, spec.num_classes, 1, padding=head.padding)
        self.trains_pooled = (
            spec.num_classes >= _MIN_CLASSES_TO_POOL_FIRST
            and not head.last_relu
            and head.padding == 0
        )
        self.classifier = nn.Sequential(
            nn.Dropout(head.dropout),
            conv10,
            nn.ReLU() if head.last_relu else nn.Identity(),
            nn.AdaptiveAvgPool2d(1),
        )

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        x_NCHW = self.features(x_NCHW)
        if self.training and self.trains_pooled:
            # Without a ReLU between them, conv10 and the average are both linear. The average
            # first gives the same logits up to rounding, by 1/169 of the work at 224 pixels.
            dropout, conv10, _, average = self.classifier
            return torch.flatten(conv10(average(dropout(x_NCHW))), 1)
        return torch.flatten(self.classifier(x_NCHW), 1)


class FullyConnected(nn.Conv2d):
    """A convolution whose kernel covers its whole input, computed as a matrix product.

    In bfloat16 on AMX, forward and backward passes of alexnet_cifar are over seven times as fast
    like this. There, torch 2.13's convolution gradient from 4,096 channels to 10 also writes out
    of bounds.
    """

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        x_NP, weight_OP = (each.movedim(1, -1).flatten(1) for each in (x_NCHW, self.weight))
        return functional.linear(x_NP, weight_OP, self.bias)[:, :, None, None]


class AlexNet(nn.Module):
    """Caffe's AlexNet: (N, C, H, W) -> logits (N, K); keys are Caffe's layer names."""

    def __init__(self, spec: AlexNetSpec) -> None:
        super().__init__()
        pools = {pool.after: pool for pool in spec.pools}
        norms = {f"conv{i + 1}" for i, conv in enumerate(spec.convs) if conv.lrn}
        self.steps: list[tuple[str, str | None, nn.Module | None, nn.Module | None]] = []
        for conv in build_graph(spec).convs:
            kind = FullyConnected if conv.name.startswith("fc") else nn.Conv2d
            self.add_module(
                conv.name,
                kind(
                    conv.in_channels,
                    conv.out_channels,
                    conv.kernel,
                    conv.stride,
                    conv.padding,
                    groups=conv.groups,
                    bias=conv.norm_key is None,
                ),
            )
            if conv.norm_key is not None:
                self.add_module(conv.norm_key, nn.BatchNorm2d(conv.out_channels))
            norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75) if conv.name in norms else None
            pool = _max_pool(pools[conv.name]) if conv.name in pools else None
            self.steps.append((conv.name, conv.norm_key, norm, pool))
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        last = self.steps[-1][0]
        for name, norm_key, norm, pool in self.steps:
            x_NCHW = self.get_submodule(name)(x_NCHW)
            if name == last:
                break
            if norm_key is not None:
                x_NCHW = self.get_submodule(norm_key)(x_NCHW)
            x_NCHW = torch.relu(x_NCHW)
            if norm is not None:
                x_NCHW = norm(x_NCHW)
            if pool is not None:
                x_NCHW = pool(x_NCHW)
            if name.startswith("fc"):
                x_NCHW = self.dropout(x_NCHW)
        return torch.flatten(x_NCHW, 1)
