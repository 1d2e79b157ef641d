"""The integers that a client computes with, from what the file holds: spec/INTEGER.md.

Exact: Python's integers and fractions, no float. Levels are O, I, H, W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import Add, Conv, build_graph
from squeezenet.arch.quantized_tensors import find_head, source_of_scale
from squeezenet.codec.client_sections import FIXED_POINT
from squeezenet.codec.types import ActivationScale, CompressedModel, LevelWeights
from squeezenet.errors import FloatOnlyError, LimitError

MAX_ACCUMULATOR = 1 << 30
_BYTE_BITS, _LOGIT_BITS = 15, 16
_BYTE_SHIFTS, _LOGIT_SHIFTS = range(31), range(63)
_BYTE_MULTIPLIER, _LOGIT_MULTIPLIER = 1 << 11, 1 << 14
_MAX_POSITIONS = 1 << 17
_MAX_RATIO = 1 << 21

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class InputParameters:
    """``multiplier_C`` is A, ``zero_C`` Z in 1/65536, ``padding_C`` the byte of the padding."""

    multiplier_C: tuple[int, ...]
    zero_C: tuple[int, ...]
    padding_C: tuple[int, ...]
    step: Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvParameters:
    """``bias_O`` is B; ``multiplier_O`` and ``shift_O`` are m and s; ``zero``, ``low`` of the
    target (None: the head)."""

    levels_OIHW: npt.NDArray[np.int8]
    bias_O: IntArray
    multiplier_O: IntArray
    shift_O: IntArray
    zero: int | None
    low: int


@dataclass(frozen=True, kw_only=True)
class AddParameters:
    """R1, R2 and the zeros of both sources and of the target."""

    ratios: tuple[int, int]
    zeros: tuple[int, int]
    zero: int


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerParameters:
    """All that the operations of a graph compute with, by the operation's name."""

    input: InputParameters
    convs: Mapping[str, ConvParameters]
    adds: Mapping[str, AddParameters]
    padding: Mapping[str, tuple[int, ...]]
    """The byte, or that of each channel, which stands for 0 in a tensor."""


def integer_parameters(model: CompressedModel) -> IntegerParameters:
    """Work them out.

    Raises:
        FloatOnlyError: the model has codebooks, or no activations.
        LimitError: an accumulator or a multiplier beyond the limits.
    """
    if not model.is_integer:
        raise FloatOnlyError(
            f"{model.record.spec.name}: has codebooks or no activation scales, so it is for "
            "float32 alone; compress it by method rd"
        )
    assert model.activations is not None
    graph = build_graph(model.record.spec)
    own = source_of_scale(graph)
    scales = {name: model.activations.get(own[name]) for name in graph.tensors}
    entry = _input(model)
    head = find_head(graph)
    layers = {layer.name: layer for layer in model.layers}
    convs, adds = {}, {}
    for op in graph.operations:
        if isinstance(op, Conv):
            weights = layers[op.name].weights
            assert isinstance(weights, LevelWeights)
            positions = graph.tensors[op.target].height * graph.tensors[op.target].width
            convs[op.name] = _conv(
                op,
                weights,
                layers[op.name].bias_O,
                scales[op.source],
                entry,
                None if op is head else scales[op.target],
                positions,
            )
        elif isinstance(op, Add):
            adds[op.name] = _add(op, scales)
    padding: dict[str, tuple[int, ...]] = {graph.input: entry.padding_C}
    for name, scale in scales.items():
        if scale is not None:
            padding[name] = (scale.zero_point,)
    return IntegerParameters(input=entry, convs=convs, adds=adds, padding=padding)


def _input(model: CompressedModel) -> InputParameters:
    preprocessing = model.record.preprocessing
    deviations = [round(std * FIXED_POINT) for std in preprocessing.std]
    means = [round(mean * FIXED_POINT) for mean in preprocessing.mean]
    least = min(deviations)
    multipliers = tuple(floor(Fraction(least << 16, d) + Fraction(1, 2)) for d in deviations)
    zeros = tuple((m * a + (1 << 15)) >> 16 for m, a in zip(means, multipliers, strict=True))
    return InputParameters(
        multiplier_C=multipliers,
        zero_C=zeros,
        padding_C=tuple(min(255, max(0, (z + (1 << 15)) >> 16)) for z in zeros),
        step=Fraction(FIXED_POINT, least),
    )


def _conv(
    op: Conv,
    weights: LevelWeights,
    bias_O: npt.NDArray[np.float32],
    source: ActivationScale | None,
    entry: InputParameters,
    target: ActivationScale | None,
    positions: int,
) -> ConvParameters:
    """``source`` None is the input, ``target`` None the head's sums."""
    levels_OIHW = weights.levels_OIHW.astype(np.int64)
    step = entry.step if source is None else Fraction(source.scale)
    biases, multipliers, shifts = [], [], []
    for o, (scale, bias) in enumerate(zip(weights.scales_O, bias_O, strict=True)):
        unit = Fraction(float(scale)) * step
        sums_I = levels_OIHW[o].sum(axis=(1, 2))
        if source is None:
            first = o // (op.out_channels // op.groups) * len(sums_I)
            zeros = entry.zero_C[first : first + len(sums_I)]
            offset = (sum(int(s) * z for s, z in zip(sums_I, zeros, strict=True)) + (1 << 15)) >> 16
        else:
            offset = source.zero_point * int(sums_I.sum())
        biases.append(round_half_away(Fraction(float(bias)) / unit) - offset)
        if 255 * int(np.abs(levels_OIHW[o]).sum()) + abs(biases[-1]) > MAX_ACCUMULATOR:
            raise LimitError(f"{op.name}: output channel {o} may overflow its accumulator")
        if target is None:
            m, s = _multiplier(
                unit / positions, _LOGIT_BITS, _LOGIT_MULTIPLIER, _LOGIT_SHIFTS, op.name
            )
        else:
            m, s = _multiplier(
                unit / Fraction(target.scale), _BYTE_BITS, _BYTE_MULTIPLIER, _BYTE_SHIFTS, op.name
            )
        multipliers.append(m)
        shifts.append(s)
    if target is None and positions > _MAX_POSITIONS:
        raise LimitError(f"{op.name}: {positions} positions, expected at most {_MAX_POSITIONS}")
    zero = None if target is None else target.zero_point
    return ConvParameters(
        levels_OIHW=weights.levels_OIHW,
        bias_O=np.array(biases, np.int64),
        multiplier_O=np.array(multipliers, np.int64),
        shift_O=np.array(shifts, np.int64),
        zero=zero,
        low=zero if op.relu and zero is not None else 0,
    )


def _multiplier(
    ratio: Fraction, bits: int, least: int, shifts: range, where: str
) -> tuple[int, int]:
    """Return m and s: about ``ratio`` = m / 2^(bits + s), m at least ``least`` if it can be."""
    if ratio * (1 << bits) >= 1 << 15:
        raise LimitError(f"{where}: a step of the target is too small for its source's and scales")
    s = next((s for s in shifts if ratio * (1 << (bits + s)) >= least), shifts[-1])
    return min((1 << 15) - 1, floor(ratio * (1 << (bits + s)) + Fraction(1, 2))), s


def _add(op: Add, scales: Mapping[str, ActivationScale | None]) -> AddParameters:
    source, other, target = (scales[name] for name in (op.source, op.other, op.target))
    assert source is not None and other is not None and target is not None
    ratios = []
    for each in (source, other):
        ratio = floor((Fraction(each.scale) * (1 << 16)) / Fraction(target.scale) + Fraction(1, 2))
        if ratio >= _MAX_RATIO:
            raise LimitError(f"{op.name}: the target's step is too small for its sources'")
        ratios.append(ratio)
    return AddParameters(
        ratios=(ratios[0], ratios[1]),
        zeros=(source.zero_point, other.zero_point),
        zero=target.zero_point,
    )


def round_half_away(value: Fraction) -> int:
    """Return the nearest whole number, halves away from 0."""
    magnitude = floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude
