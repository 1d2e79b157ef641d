"""The weights of all layers <-> one stream of the range coder: spec/FORMAT.md, "WEIGHTS".

Encoder and decoder share one code path. As in ``range_coder``, each step takes the value to
encode, which a decoder ignores, and returns the coded value. Output channels follow one another,
each with its scale, bias and levels, so that a client can stop after any of them. ``range_levels``
and ``range_codebooks`` code the two kinds of layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from squeezenet._native import Decoder, Encoder
from squeezenet.arch.graph import Conv
from squeezenet.codec.numerics import Float32Array
from squeezenet.codec.range_codebooks import CodebookStream
from squeezenet.codec.range_coder import MAX_OVERRUN
from squeezenet.codec.range_levels import LevelStream
from squeezenet.codec.range_rows import RAW_BITS, SymbolCoder
from squeezenet.codec.types import CodebookWeights, CompressedLayer, LevelWeights
from squeezenet.errors import MalformedError

_CODEBOOK: Final = 0
_LEVELS: Final = 1
_TRELLIS: Final = 2
MAX_WEIGHTS_PER_BYTE: Final = 4096
"""Limit on what a header may claim (spec/FORMAT.md, "Limits"). A context's probability stays at or
above 10/4096, so a level costs at least 1/284 bit, and a byte codes at most 2,272 levels."""


def encode_weights(layers: Sequence[CompressedLayer]) -> bytes:
    """Return the stream of all layers; equal layers give equal bytes.

    If the context model needs more than 9 bits per level, levels are coded raw, in 9 bits each.
    """
    data, _ = _encode(layers, raw=False)
    num_weights = sum(layer.num_weights for layer in layers)
    if 8 * len(data) > RAW_BITS * num_weights:
        data = min(data, _encode(layers, raw=True)[0], key=len)
    return data


def layer_bytes(layers: Sequence[CompressedLayer]) -> list[int]:
    """Return the bytes of each layer in the stream, all side information included."""
    data, ends = _encode(layers, raw=False)
    return [end - start for start, end in pairwise([0, *ends[:-1], len(data)])]


def _encode(layers: Sequence[CompressedLayer], *, raw: bool) -> tuple[bytes, list[int]]:
    """Return the stream, and the byte at which each layer ends, to within the coder's 4 bytes."""
    encoder = Encoder()
    stream = _WeightStream(encoder, "weights", raw=raw)
    ends = []
    for layer in layers:
        stream.code(layer.weights.symbols_OIHW.shape, layer)
        ends.append(encoder.size)
    return encoder.finish(), ends


def has_trellis(layers: Sequence[CompressedLayer]) -> bool:
    """Whether a layer's levels are on the trellis, which needs version 2 of the format."""
    return any(
        isinstance(layer.weights, LevelWeights) and layer.weights.trellis for layer in layers
    )


def decode_weights(
    data: bytes, convs: Sequence[Conv], where: str, *, trellis: bool = True
) -> tuple[CompressedLayer, ...]:
    """Read ``encode_weights``' bytes for the convolutions of a graph.

    ``where`` names the bytes in errors. ``trellis``: whether levels on the trellis are allowed.

    Raises:
        MalformedError: the bytes are not such a stream.
    """
    decoder = Decoder(data)
    stream = _WeightStream(decoder, where, trellis=trellis, num_bytes=len(data))
    layers = []
    for conv in convs:
        stream.where = f"{where}: {conv.name}"
        weights, bias_O = stream.code(conv.weight_shape)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
    if not decoder.at_end:
        raise MalformedError(f"{where}: the weights do not end where their section ends")
    return tuple(layers)


class _WeightStream:
    """Codes one layer after another; ``num_bytes`` is the length of a stream to decode."""

    def __init__(
        self,
        coder: SymbolCoder,
        where: str,
        *,
        raw: bool = False,
        trellis: bool = True,
        num_bytes: int | None = None,
    ) -> None:
        self.where = where
        self._coder = coder
        self._levels = LevelStream(coder)
        self._codebooks = CodebookStream(coder)
        self._raw = raw
        self._trellis = trellis
        self._num_bytes = num_bytes

    def code(
        self, shape: tuple[int, ...], layer: CompressedLayer | None = None
    ) -> tuple[CodebookWeights | LevelWeights, Float32Array]:
        """Code a layer of ``shape`` OIHW: encode ``layer``, or decode if it is None."""
        weights = layer.weights if layer is not None else None
        bias_O = layer.bias_O if layer is not None else np.zeros(shape[0], np.float32)
        kind = self._coder.plain(2, self._kind(weights))
        raw = bool(self._coder.plain(1, self._raw))
        trellis = kind == _TRELLIS
        if kind > _TRELLIS or (trellis and (raw or not self._trellis)):
            raise MalformedError(
                f"{self.where}: representation {kind}{' raw' * raw}, expected 0 or 1, or 2 not raw "
                "in a file of version 2"
            )
        if raw:
            self._require_raw_fits(math.prod(shape))
        inputs, height, width = shape[1:]
        self._coder.begin(inputs, height, width, trellis)
        if kind == _CODEBOOK:
            assert not isinstance(weights, LevelWeights)
            return self._codebooks.code(shape, weights, bias_O, self.where, raw=raw)
        assert not isinstance(weights, CodebookWeights)
        return self._levels.code(shape, weights, bias_O, self.where, raw=raw, trellis=trellis)

    def _kind(self, weights: CodebookWeights | LevelWeights | None) -> int:
        if not isinstance(weights, LevelWeights):
            return _CODEBOOK
        return _TRELLIS if weights.trellis and not self._raw else _LEVELS

    def _require_raw_fits(self, num_weights: int) -> None:
        """Refuse a stream that ends before its raw weights, before Python loops over them."""
        if self._num_bytes is None:
            return
        max_weights = 8 * (self._num_bytes + MAX_OVERRUN) // RAW_BITS
        if num_weights > max_weights:
            raise MalformedError(
                f"{self.where}: {num_weights} raw weights, expected at most {max_weights} in "
                f"{self._num_bytes} bytes"
            )
