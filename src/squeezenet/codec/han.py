"""Reader of ``compressed_SqueezeNet.net``, the file that the paper's authors published.

The authors did not document the layout. It is little-endian and has no header: 26 u32 numbers of
entries, one per convolution. Then per convolution: a codebook of 256 float32; one float32 bias per
output channel; one u8 code per entry; one 4-bit gap per entry (low nibble first). An entry is
gap + 1 places after the previous one in the weights flattened as OIHW. Entries of code 0 bridge
runs of zeros longer than a gap can express.

The codebook is kept, so the conversion to ``.sqz`` is lossless.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from squeezenet.arch.graph import Conv, build_graph
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.preprocessing import caffe_preprocessing
from squeezenet.arch.presets import caffe_squeezenet1_0
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import CodebookWeights, CompressedLayer, CompressedModel
from squeezenet.errors import MalformedError, TruncatedError

_CODEBOOK_ENTRIES = 256
_CONVS = build_graph(caffe_squeezenet1_0()).convs
_COUNTS_BYTES = 4 * len(_CONVS)


def expected_bytes(head: bytes) -> int | None:
    """Return the length in bytes of the ``.net`` file that begins with ``head``.

    None: no ``.net`` file begins so.
    """
    if len(head) < _COUNTS_BYTES:
        return None
    counts: list[int] = np.frombuffer(head[:_COUNTS_BYTES], "<u4").tolist()
    if not all(0 < n <= conv.num_weights for n, conv in zip(counts, _CONVS, strict=True)):
        return None
    per_layer = (
        4 * (_CODEBOOK_ENTRIES + conv.out_channels) + n + (n + 1) // 2
        for n, conv in zip(counts, _CONVS, strict=True)
    )
    return _COUNTS_BYTES + sum(per_layer)


def decode_net(data: bytes, where: str = "file") -> CompressedModel:
    """Read the file's bytes; ``where`` names them in errors.

    Raises:
        TruncatedError: the file is too short.
        MalformedError: it is not such a file, or damaged.
    """
    expected = expected_bytes(data)
    if expected is None:
        raise MalformedError(
            f"{where}: not Han's compressed_SqueezeNet.net: it does not begin with "
            f"{len(_CONVS)} numbers of entries"
        )
    if len(data) < expected:
        raise TruncatedError(f"{where}: {len(data)} bytes, expected {expected}; fetch it again")
    reader = ByteReader(data, where)
    counts = np.frombuffer(reader.take(_COUNTS_BYTES), "<u4")
    layers = [_layer(reader, conv, int(n)) for conv, n in zip(_CONVS, counts, strict=True)]
    reader.finish()
    names, wordnet_ids = imagenet_classes()
    record = ModelRecord(
        spec=caffe_squeezenet1_0(),
        preprocessing=caffe_preprocessing(),
        class_names=names,
        class_ids=wordnet_ids,
        provenance={
            "source": "compressed_SqueezeNet.net",
            "source_sha256": hashlib.sha256(data).hexdigest(),
            "method": "Deep Compression, by the paper's authors",
        },
    )
    return CompressedModel(record=record, layers=tuple(layers))


def read_net(path: Path) -> CompressedModel:
    """Read a ``.net`` file; errors as ``decode_net``'s."""
    return decode_net(path.read_bytes(), str(path))


def _layer(reader: ByteReader, conv: Conv, num_entries: int) -> CompressedLayer:
    codebook = np.frombuffer(reader.take(4 * _CODEBOOK_ENTRIES), "<f4").astype(np.float32)
    bias_O = np.frombuffer(reader.take(4 * conv.out_channels), "<f4").astype(np.float32)
    codes = np.frombuffer(reader.take(num_entries), np.uint8)
    nibbles = np.frombuffer(reader.take((num_entries + 1) // 2), np.uint8)
    gaps = np.stack([nibbles & 15, nibbles >> 4], axis=1).reshape(-1)[:num_entries]
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
    if positions[-1] >= conv.num_weights:
        raise MalformedError(
            f"{reader.where}: {conv.name}: an entry after the last weight, at {positions[-1]} of "
            f"{conv.num_weights}; fetch the file again"
        )
    if codebook[0] != 0.0 or not (np.isfinite(codebook).all() and np.isfinite(bias_O).all()):
        raise MalformedError(
            f"{reader.where}: {conv.name}: codebook or biases are damaged, expected finite values "
            "and 0 as entry 0; fetch the file again"
        )
    flat = np.zeros(conv.num_weights, np.uint8)
    flat[positions] = codes
    weights = CodebookWeights(codes_OIHW=flat.reshape(conv.weight_shape), codebook=codebook)
    return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)
