"""Levels in two layers of refinement, for bench/progressive.py: coarse ones first, then the rest.

Both layers are really coded. Coarse levels go through the range coder as levels without a trellis
(a decoder of them alone does not know the trellis' states). The refinement codes each level given
its coarse one: the state says whether it is odd or even, and contexts are the coarse level, its
kernel and the activity of its input channel at full precision.

Legend: N images, C channels, O output channels, I input channels, K kernel positions, H W.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from progressive_correction import Correction, corrected

from squeezenet._native import Encoder
from squeezenet.codec.numerics import bias_shift, round_scales
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.trellis import NEXT_STATE
from squeezenet.codec.types import (
    MAX_LEVEL,
    CodebookWeights,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
)
from squeezenet.compress.rate_distortion.bit_costs import activity_classes, kernel_sums

Levels = npt.NDArray[np.int64]
Symbols = Callable[[Levels], Levels]
"""Magnitudes of levels -> magnitudes of their coarse symbols."""
_REST, _SIGNS, _BIAS_SLOT, _SCALE_SLOT = 1024, 2048, 2100, 2140
"""The first contexts of bits after a level's first, of signs, of biases and of scales."""
_PLACES = 8
_MAX_FACTOR, _MAX_FRACTION = 2.0, 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Coarse:
    """A coarse network that runs, and the bytes of both layers of refinement.

    ``coarse_bytes`` and ``refinement_bytes`` replace the bytes of the exact weights.
    """

    model: CompressedModel
    coarse_bytes: int
    refinement_bytes: int


def larger_than(least: int) -> Symbols:
    """Keep magnitudes of ``least`` and more as they are; smaller ones become 0."""
    return lambda magnitude: np.maximum(magnitude - least + 1, 0)


def multiples_of(step: int) -> Symbols:
    """Round magnitudes to multiples of ``step``, halves up."""
    return lambda magnitude: (magnitude + step // 2) // step


def nothing(magnitude: Levels) -> Levels:
    """Leave the layer out: all levels are 0, its outputs are its biases."""
    return np.zeros_like(magnitude)


def coarsen(
    model: CompressedModel, rules: Mapping[str, Symbols], correction: Correction | None = None
) -> Coarse:
    """Make the levels of some layers coarse; others stay exact and are sent in the first layer."""
    symbols, layers = {}, []
    for layer in model.layers:
        weights = layer.weights
        if layer.name in rules:
            assert isinstance(weights, LevelWeights)
            magnitude = rules[layer.name](np.abs(weights.levels_OIHW.astype(np.int64)))
            symbols[layer.name] = np.sign(weights.levels_OIHW) * magnitude
            weights = _restored(weights, magnitude, unbiased=correction is not None)
        layers.append(CompressedLayer(name=layer.name, weights=weights, bias_O=layer.bias_O))
    found = CompressedModel(
        record=model.record, layers=tuple(layers), activations=model.activations
    )
    if correction is not None:
        found = corrected(found, model, list(rules), correction)
    sent = [
        _sent(exact, layer, symbols[layer.name], restored.weights) if layer.name in rules else exact
        for exact, layer, restored in zip(model.layers, found.layers, layers, strict=True)
    ]
    return Coarse(
        model=found,
        coarse_bytes=len(encode_weights(sent)),
        refinement_bytes=_refinement_bytes(model.layers, sent),
    )


def _sent(
    exact: CompressedLayer,
    corrected_layer: CompressedLayer,
    symbol_OIHW: Levels,
    restored: CodebookWeights | LevelWeights,
) -> CompressedLayer:
    """Return a layer's coarse symbols, with the file's scales times what the correction did."""
    assert isinstance(exact.weights, LevelWeights) and isinstance(restored, LevelWeights)
    assert isinstance(corrected_layer.weights, LevelWeights)
    gain_O = corrected_layer.weights.scales_O / restored.scales_O
    weights = LevelWeights(
        levels_OIHW=symbol_OIHW.astype(np.int8),
        scales_O=round_scales(exact.weights.scales_O * gain_O),
    )
    return CompressedLayer(name=exact.name, weights=weights, bias_O=corrected_layer.bias_O)


def _restored(weights: LevelWeights, symbol_OIHW: Levels, *, unbiased: bool) -> LevelWeights:
    """Return the weights that a decoder of the coarse symbols alone would take.

    Each symbol stands for the mean magnitude of its levels in this layer; ``unbiased``, times one
    factor that leaves no error along the weights (cf. ``unbiased_scale`` in compress). On training
    pictures the factor helps with corrected biases, and hurts without. Both would be a few bytes
    per layer, which are not counted. Levels and scales are in fractions of the file's.
    """
    magnitude = np.abs(weights.levels_OIHW.astype(np.int64))
    total = np.bincount(symbol_OIHW.reshape(-1), magnitude.reshape(-1))
    count = np.bincount(symbol_OIHW.reshape(-1))
    mean = total / np.maximum(count, 1)
    mean[0] = 0
    typical = mean[symbol_OIHW]
    factor = float((magnitude**2).sum()) / max(float((magnitude * typical).sum()), 1.0)
    typical = typical * (min(factor, _MAX_FACTOR) if unbiased else 1.0)
    fraction = 1
    while 2 * fraction * typical.max(initial=0) <= MAX_LEVEL and fraction < _MAX_FRACTION:
        fraction *= 2
    levels = np.sign(weights.levels_OIHW) * np.rint(fraction * typical).clip(0, MAX_LEVEL)
    return LevelWeights(
        levels_OIHW=levels.astype(np.int8), scales_O=weights.scales_O / np.float32(fraction)
    )


def _refinement_bytes(exact: Sequence[CompressedLayer], sent: Sequence[CompressedLayer]) -> int:
    """Code what the exact layers have beyond the sent ones, and count the bytes."""
    encoder = Encoder()
    for layer, first in zip(exact, sent, strict=True):
        if layer is first:
            continue
        assert isinstance(layer.weights, LevelWeights) and isinstance(first.weights, LevelWeights)
        unit = 2.0 ** bias_shift(layer.bias_O)
        for difference in np.rint((layer.bias_O - first.bias_O) * unit).astype(np.int64).tolist():
            encoder.number(_BIAS_SLOT, difference)
        codes_O, first_O = (x.scales_O.view(np.int32) >> 18 for x in (layer.weights, first.weights))
        for difference in (codes_O - first_O).tolist():
            encoder.number(_SCALE_SLOT, difference)
        if not first.weights.levels_OIHW.any():  # nothing was sent: the coder does its best
            inputs, height, width = layer.weights.levels_OIHW.shape[1:]
            encoder.begin(inputs, height, width, layer.weights.trellis)
            for row_P in layer.weights.levels_OIHW.reshape(len(layer.bias_O), -1):
                encoder.channel(row_P.astype(np.int16))
            continue
        _refine(encoder, layer.weights, first.weights.levels_OIHW.astype(np.int64))
    return len(encoder.finish())


def _refine(encoder: Encoder, weights: LevelWeights, coarse_OIHW: Levels) -> None:
    """Code a layer's levels given the coarse ones.

    A level is one of those that have its coarse symbol and that the trellis' state allows; its
    place among them is coded in unary.
    """
    shape = (len(weights.scales_O), coarse_OIHW.shape[1], -1)
    level_OIK = weights.levels_OIHW.astype(np.int64).reshape(shape)
    coarse_OIK = coarse_OIHW.reshape(shape)
    odd_OIK, code_OIK = trellis_path(level_OIK, trellis=weights.trellis)
    size = level_OIK.shape[2]
    magnitude, symbol = np.abs(level_OIK), np.abs(coarse_OIK)
    allowed = _allowed(magnitude, symbol, odd_OIK, trellis=weights.trellis)
    spatial = int(size > 1)
    kind = spatial * 2 + odd_OIK
    activity = activity_classes(code_OIK) // 2
    before = np.minimum(kernel_sums(code_OIK), 7) * spatial
    kept = np.minimum(np.count_nonzero(coarse_OIK, axis=2, keepdims=True), 3) * spatial
    zero = ((kind * 8 + before) * 4 + kept) * 8 + activity
    rest = _REST + ((kind * 4 + np.minimum(symbol, 3)) * 8 + activity) * _PLACES
    signs = _SIGNS + spatial * 9 + _sign_classes(weights.levels_OIHW)
    flat = (each.reshape(-1).tolist() for each in (level_OIK, symbol, zero, rest, signs))
    for level, of_symbol, context, other, sign, choices in zip(*flat, allowed, strict=True):
        place = choices.index(abs(level))
        for i in range(min(place + 1, len(choices) - 1)):
            first = i == 0 and not of_symbol
            encoder.bit(context if first else other + min(i, _PLACES - 1), i < place)
        if level and not of_symbol:
            encoder.bit(sign, level < 0)


def _sign_classes(levels_OIHW: npt.NDArray[np.int8]) -> Levels:
    """Return 3 * the sign on the left + the sign above, each 0 to 2; 0 outside the kernel."""
    sign_OIHW = np.where(levels_OIHW > 0, 2, (levels_OIHW < 0).astype(np.int64))
    classes = np.zeros_like(sign_OIHW)
    classes[..., 1:] += 3 * sign_OIHW[..., :-1]
    classes[..., 1:, :] += sign_OIHW[..., :-1, :]
    return classes


def _allowed(
    magnitude: Levels, symbol: Levels, odd: Levels, *, trellis: bool
) -> list[tuple[int, ...]]:
    """Return for each level the magnitudes that its coarse symbol and its state allow."""
    table: dict[tuple[int, int], tuple[int, ...]] = {}
    pairs = np.unique(np.stack([symbol.reshape(-1), magnitude.reshape(-1)]), axis=1)
    for s in np.unique(symbol).tolist():
        of_symbol = pairs[1][pairs[0] == s]
        every = range(int(of_symbol.min()), int(of_symbol.max()) + 1)
        for parity in (0, 1):
            table[s, parity] = tuple(
                m for m in every if not trellis or m % 2 == parity or (parity and m == 0)
            )
    return [
        table[key]
        for key in zip(symbol.reshape(-1).tolist(), odd.reshape(-1).tolist(), strict=True)
    ]


def trellis_path(level_OIK: Levels, *, trellis: bool) -> tuple[Levels, Levels]:
    """Return for each level whether its state is odd, and its code (spec/FORMAT.md, "Trellis")."""
    if not trellis:
        return np.zeros_like(level_OIK), level_OIK
    level_OP = level_OIK.reshape(len(level_OIK), -1)
    odd_OP, code_OP = np.empty_like(level_OP), np.empty_like(level_OP)
    following = np.array(NEXT_STATE)
    state_O = np.zeros(len(level_OP), np.int64)
    for p in range(level_OP.shape[1]):
        odd_OP[:, p] = state_O & 1
        code_OP[:, p] = (level_OP[:, p] + np.sign(level_OP[:, p]) * (state_O & 1)) // 2
        state_O = following[state_O, code_OP[:, p] & 1]
    return odd_OP.reshape(level_OIK.shape), code_OP.reshape(level_OIK.shape)
