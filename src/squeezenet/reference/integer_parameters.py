"""The integer constants of a client, computed from the file's content: spec/INTEGER.md.

Exact: Python's integers and fractions, no floating point. The names in docstrings (A, Z, B, m, s,
R1, R2) are the specification's.

Legend: C input channels of the network, O output channels, I input channels of a group,
H W kernel height and width.
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

# All constants are those of spec/INTEGER.md, sections "Convolution" and "Addition".
MAX_ACCUMULATOR = 1 << 30
_BYTE_BITS, _LOGIT_BITS = 15, 16
_BYTE_SHIFTS, _LOGIT_SHIFTS = range(31), range(63)
_MIN_BYTE_MULTIPLIER, _MIN_LOGIT_MULTIPLIER = 1 << 11, 1 << 14
_MAX_MULTIPLIER = (1 << 15) - 1
_MAX_POSITIONS = 1 << 17
_MAX_RATIO = 1 << 21

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class InputParameters:
    """Constants of the input, per channel.

    ``multiplier_C`` is A; ``zero_point_C`` is Z, in units of 1/65536; ``padding_C`` is the byte
    that pads. ``scale`` is the same for all channels.
    """

    multiplier_C: tuple[int, ...]
    zero_point_C: tuple[int, ...]
    padding_C: tuple[int, ...]
    scale: Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvParameters:
    """Constants of a convolution: ``bias_O`` is B, ``multiplier_O`` is m, ``shift_O`` is s.

    ``zero_point`` is the target's, or None for the head. ``low`` is the smallest output byte: the
    zero point after a ReLU, else 0.
    """

    levels_OIHW: npt.NDArray[np.int8]
    bias_O: IntArray
    multiplier_O: IntArray
    shift_O: IntArray
    zero_point: int | None
    low: int


@dataclass(frozen=True, kw_only=True)
class AddParameters:
    """Constants of an addition: ``ratios`` are R1 and R2; ``zero_point`` is the target's."""

    ratios: tuple[int, int]
    source_zero_points: tuple[int, int]
    zero_point: int


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerParameters:
    """Constants of all operations of a graph, by the operation's name.

    ``padding``: by tensor name, the byte that represents 0, or one such byte per channel.
    """

    input: InputParameters
    convs: Mapping[str, ConvParameters]
    adds: Mapping[str, AddParameters]
    padding: Mapping[str, tuple[int, ...]]


def integer_parameters(model: CompressedModel) -> IntegerParameters:
    """Compute the integer constants of a model.

    Raises:
        FloatOnlyError: the model has codebooks, or no activation scales.
        LimitError: an accumulator or a multiplier is beyond the limits.
    """
    if not model.is_integer:
        raise FloatOnlyError(
            f"{model.record.spec.name}: has codebooks or no activation scales, so it is for "
            "float32 alone; compress it by method rd"
        )
    assert model.activations is not None
    graph = build_graph(model.record.spec)
    scale_of = source_of_scale(graph)
    scales = {name: model.activations.get(scale_of[name]) for name in graph.tensors}
    input_parameters = _input(model)
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
                input_parameters,
                None if op is head else scales[op.target],
                positions,
            )
        elif isinstance(op, Add):
            adds[op.name] = _add(op, scales)
    padding: dict[str, tuple[int, ...]] = {graph.input: input_parameters.padding_C}
    for name, scale in scales.items():
        if scale is not None:
            padding[name] = (scale.zero_point,)
    return IntegerParameters(input=input_parameters, convs=convs, adds=adds, padding=padding)


def _input(model: CompressedModel) -> InputParameters:
    preprocessing = model.record.preprocessing
    deviations = [round(std * FIXED_POINT) for std in preprocessing.std]
    means = [round(mean * FIXED_POINT) for mean in preprocessing.mean]
    smallest = min(deviations)
    multipliers = tuple(floor(Fraction(smallest << 16, d) + Fraction(1, 2)) for d in deviations)
    zero_points = tuple((m * a + (1 << 15)) >> 16 for m, a in zip(means, multipliers, strict=True))
    return InputParameters(
        multiplier_C=multipliers,
        zero_point_C=zero_points,
        padding_C=tuple(min(255, max(0, (z + (1 << 15)) >> 16)) for z in zero_points),
        scale=Fraction(FIXED_POINT, smallest),
    )


def _conv(
    op: Conv,
    weights: LevelWeights,
    bias_O: npt.NDArray[np.float32],
    source: ActivationScale | None,
    input_parameters: InputParameters,
    target: ActivationScale | None,
    positions: int,
) -> ConvParameters:
    """Compute a convolution's constants; ``source`` None: the input, ``target`` None: the head."""
    levels_OIHW = weights.levels_OIHW.astype(np.int64)
    source_scale = input_parameters.scale if source is None else Fraction(source.scale)
    biases, multipliers, shifts = [], [], []
    for o, (scale, bias) in enumerate(zip(weights.scales_O, bias_O, strict=True)):
        unit = Fraction(float(scale)) * source_scale  # the value of 1 in the accumulator
        sums_I = levels_OIHW[o].sum(axis=(1, 2))
        if source is None:
            first = o // (op.out_channels // op.groups) * len(sums_I)
            z_I = input_parameters.zero_point_C[first : first + len(sums_I)]
            offset = (sum(int(s) * z for s, z in zip(sums_I, z_I, strict=True)) + (1 << 15)) >> 16
        else:
            offset = source.zero_point * int(sums_I.sum())
        biases.append(round_half_away(Fraction(float(bias)) / unit) - offset)
        peak = 255 * int(np.abs(levels_OIHW[o]).sum()) + abs(biases[-1])
        if peak > MAX_ACCUMULATOR:
            raise LimitError(
                f"{op.name}: accumulator of output channel {o} reaches {peak}, "
                f"expected at most {MAX_ACCUMULATOR}"
            )
        if target is None:
            m, s = _multiplier(
                unit / positions, _LOGIT_BITS, _MIN_LOGIT_MULTIPLIER, _LOGIT_SHIFTS, op.name
            )
        else:
            ratio = unit / Fraction(target.scale)
            m, s = _multiplier(ratio, _BYTE_BITS, _MIN_BYTE_MULTIPLIER, _BYTE_SHIFTS, op.name)
        multipliers.append(m)
        shifts.append(s)
    if target is None and positions > _MAX_POSITIONS:
        raise LimitError(f"{op.name}: {positions} positions, expected at most {_MAX_POSITIONS}")
    zero_point = None if target is None else target.zero_point
    return ConvParameters(
        levels_OIHW=weights.levels_OIHW,
        bias_O=np.array(biases, np.int64),
        multiplier_O=np.array(multipliers, np.int64),
        shift_O=np.array(shifts, np.int64),
        zero_point=zero_point,
        low=zero_point if op.relu and zero_point is not None else 0,
    )


def _multiplier(
    ratio: Fraction, bits: int, minimum: int, shifts: range, where: str
) -> tuple[int, int]:
    """Return m and s with m / 2^(bits + s) nearest to ``ratio`` (M in the specification).

    s is the smallest of ``shifts`` for which m is at least ``minimum``, else the last.
    """
    if ratio * (1 << bits) >= 1 << 15:
        raise LimitError(
            f"{where}: the scales of input, weights and output give M = {float(ratio):g}, "
            f"expected below {2.0 ** (15 - bits):g}"
        )
    s = next((s for s in shifts if ratio * (1 << (bits + s)) >= minimum), shifts[-1])
    return min(_MAX_MULTIPLIER, floor(ratio * (1 << (bits + s)) + Fraction(1, 2))), s


def _add(op: Add, scales: Mapping[str, ActivationScale | None]) -> AddParameters:
    source, other, target = (scales[name] for name in (op.source, op.other, op.target))
    assert source is not None and other is not None and target is not None
    ratios = []
    for each in (source, other):
        ratio = floor((Fraction(each.scale) * (1 << 16)) / Fraction(target.scale) + Fraction(1, 2))
        if ratio >= _MAX_RATIO:
            raise LimitError(
                f"{op.name}: the scales of a source and the output give R = {ratio}, "
                f"expected below {_MAX_RATIO}"
            )
        ratios.append(ratio)
    return AddParameters(
        ratios=(ratios[0], ratios[1]),
        source_zero_points=(source.zero_point, other.zero_point),
        zero_point=target.zero_point,
    )


def round_half_away(value: Fraction) -> int:
    """Return the nearest integer, halves away from 0."""
    magnitude = floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude
