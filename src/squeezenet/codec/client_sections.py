"""The sections that a client needs to run a network: GRAPH, INPUT and ACTIVATIONS.

spec/FORMAT.md defines their bytes. GRAPH and INPUT follow from the record, which is in the file as
well: this reader derives them from it and compares. So it decodes little of them; the client in C
decodes them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from squeezenet.arch.graph import (
    Add,
    Conv,
    GlobalAveragePool,
    Graph,
    LocalResponseNorm,
    MaxPool,
    Operation,
)
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.codec.reader import ByteReader
from squeezenet.codec.types import ActivationScale
from squeezenet.errors import LimitError, MalformedError, SpecError

# The codes of spec/FORMAT.md, "GRAPH" and "INPUT".
_CONV, _MAX_POOL, _ADD, _AVERAGE, _NORM = range(1, 6)
_CHANNELS = {"L": 0, "RGB": 1, "BGR": 2}
FIXED_POINT = 1 << 16
"""Means and standard deviations are stored in units of 1/65536 of a pixel level."""
_SCALE = struct.Struct("<HB")
_POSITIVE_NORMAL_BFLOAT16 = range(0x0080, 0x7F80)
"""The bit patterns of positive, normal bfloat16 numbers: the valid activation scales."""
MAX_OPERATIONS = 4096
"""Max tensors, and max operations: spec/FORMAT.md, "Limits". v1.0 has 30 operations."""
_MAX_COUNT = (1 << 28) - 1
"""Largest count: four bytes of seven bits (spec/FORMAT.md, "Conventions")."""


def graph_bytes(graph: Graph) -> bytes:
    """Return the section GRAPH: shapes of the tensors, then operations in execution order.

    Raises:
        SpecError: there are more than ``MAX_OPERATIONS``.
    """
    index = {name: i for i, name in enumerate(graph.tensors)}
    assert index[graph.input] == 0
    values = [len(index)]
    for tensor in graph.tensors.values():
        values += [tensor.channels, tensor.height, tensor.width]
    values += [len(graph.operations)]
    for op in graph.operations:
        values += _operation(op, index)
    assert graph.operations[-1].target == graph.output
    largest = max(len(index), len(graph.operations))
    if largest > MAX_OPERATIONS:
        raise SpecError(
            f"{graph.spec.name}: {largest} tensors or operations, expected at most "
            f"{MAX_OPERATIONS} in a .sqz"
        )
    return b"".join(map(_count, values))


def _operation(op: Operation, index: dict[str, int]) -> list[int]:
    ends = [index[op.source], index[op.target]]
    if isinstance(op, Conv):
        return [
            _CONV, *ends, op.target_start, op.out_channels, *op.kernel, op.stride, op.padding,
            op.groups, int(op.relu),
        ]  # fmt: skip
    if isinstance(op, MaxPool):
        return [_MAX_POOL, *ends, op.kernel, op.stride]
    if isinstance(op, Add):
        return [_ADD, *ends, index[op.other]]
    if isinstance(op, GlobalAveragePool):
        return [_AVERAGE, *ends]
    assert isinstance(op, LocalResponseNorm)
    return [_NORM, *ends, op.size]


def _count(value: int) -> bytes:
    """Return a count: seven bits per byte, lowest first, the high bit set in all but the last."""
    assert 0 <= value <= _MAX_COUNT
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def require_counts(data: bytes, where: str) -> None:
    """Refuse a section GRAPH with more tensors or operations than the limits.

    All other faults show in the comparison with the record.

    Raises:
        LimitError: there are more than ``MAX_OPERATIONS``.
    """
    at = 0
    for what, skipped in (("tensors", 3), ("operations", 0)):
        found, at = _read_count(data, at)
        if found > MAX_OPERATIONS:
            raise LimitError(f"{where}: {found} {what}, expected at most {MAX_OPERATIONS}")
        for _ in range(skipped * found):
            _, at = _read_count(data, at)


def _read_count(data: bytes, at: int) -> tuple[int, int]:
    """Return the count at ``at`` and its end; 0 and the end of the data if it is incomplete."""
    value = shift = 0
    for i in range(at, min(at + 4, len(data))):
        value |= (data[i] & 127) << shift
        shift += 7
        if data[i] < 128:
            return value, i + 1
    return 0, len(data)


def input_bytes(preprocessing: Preprocessing) -> bytes:
    """Return the section INPUT, with means and standard deviations in 1/65536 of a pixel level.

    Raises:
        SpecError: a mean or standard deviation does not fit 32 bits in these units.
    """
    data = struct.pack(
        "<BHHH", _CHANNELS[preprocessing.channels], preprocessing.resize, *preprocessing.crop
    )
    for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True):
        fixed = (round(mean * FIXED_POINT), round(std * FIXED_POINT))
        if not -(1 << 31) <= fixed[0] < 1 << 31 or not 0 < fixed[1] < 1 << 31:
            raise SpecError(
                f"preprocessing: mean {mean}, std {std}; expected a mean within 32767 and a std of "
                "1/65536 to 32767 in a .sqz"
            )
        data += struct.pack("<ii", *fixed)
    return data


def activation_bytes(activations: Mapping[str, ActivationScale]) -> bytes:
    """Return the section ACTIVATIONS: scale (bfloat16) and zero point of each tensor."""
    return b"".join(
        _SCALE.pack(struct.unpack("<I", struct.pack("<f", scale.scale))[0] >> 16, scale.zero_point)
        for scale in activations.values()
    )


def read_activations(reader: ByteReader, graph: Graph) -> dict[str, ActivationScale]:
    """Read ``activation_bytes`` for the tensors of a graph.

    Raises:
        MalformedError: there are more or fewer bytes than the graph needs, or a scale is not a
            positive normal number.
    """
    activations = {}
    for name in scaled_tensors(graph):
        bits, zero_point = reader.unpack(_SCALE.format)
        if bits not in _POSITIVE_NORMAL_BFLOAT16:
            raise MalformedError(
                f"{reader.where}: {name}: activation scale 0x{bits:04x}, expected a positive "
                "normal bfloat16"
            )
        (scale,) = struct.unpack("<f", struct.pack("<I", bits << 16))
        activations[name] = ActivationScale(scale=scale, zero_point=zero_point)
    reader.finish()
    return activations
