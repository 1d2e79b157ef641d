"""What a client needs to run a network, as bytes: the graph, the input and the activations.

spec/FORMAT.md has them. The first two follow from the record that the file holds as well; a reader
that knows the record derives them and compares. So little is decoded here: the client in C does
that.
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

_CONV, _MAX_POOL, _ADD, _AVERAGE, _NORM = range(1, 6)
_CHANNELS = {"L": 0, "RGB": 1, "BGR": 2}
FIXED_POINT = 1 << 16
"""Means and deviations are in this fraction of a pixel level."""
_SCALE = struct.Struct("<HB")
_STEPS = range(0x0080, 0x7F80)
"""Upper halves of normal float32 above 0."""
MAX_OPERATIONS = 4096


def graph_bytes(graph: Graph) -> bytes:
    """Return the tensors' shapes and the operations in the order in which they run.

    Raises:
        SpecError: there are too many.
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
    if max(len(index), len(graph.operations)) > MAX_OPERATIONS:
        raise SpecError(f"{graph.spec.name}: over {MAX_OPERATIONS} operations, too many for a .sqz")
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
    """Return a count: seven bits a byte, the lowest first, the high bit set in all but the last."""
    assert 0 <= value < 1 << 28
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def require_counts(data: bytes, where: str) -> None:
    """Refuse ``graph_bytes`` that claim more than the limits, which no record can.

    Raises:
        LimitError: too many tensors or operations. Any other fault shows in comparison.
    """
    at = 0
    for what, skipped in (("tensors", 3), ("operations", 0)):
        found, at = _read_count(data, at)
        if found > MAX_OPERATIONS:
            raise LimitError(f"{where}: {found} {what}, expected at most {MAX_OPERATIONS}")
        for _ in range(skipped * found):
            _, at = _read_count(data, at)


def _read_count(data: bytes, at: int) -> tuple[int, int]:
    """Return a count, 0 where none is whole, and where it ends."""
    value = shift = 0
    for i in range(at, min(at + 4, len(data))):
        value |= (data[i] & 127) << shift
        shift += 7
        if data[i] < 128:
            return value, i + 1
    return 0, len(data)


def input_bytes(preprocessing: Preprocessing) -> bytes:
    """Return how a picture becomes the input; means and deviations in 1/65536 of a pixel level.

    Raises:
        SpecError: a mean or deviation that those units cannot hold.
    """
    data = struct.pack(
        "<BHHH", _CHANNELS[preprocessing.channels], preprocessing.resize, *preprocessing.crop
    )
    for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True):
        fixed = (round(mean * FIXED_POINT), round(std * FIXED_POINT))
        if not -(1 << 31) <= fixed[0] < 1 << 31 or not 0 < fixed[1] < 1 << 31:
            raise SpecError(
                f"preprocessing: mean {mean}, std {std}; a .sqz file holds means within 32767 and "
                "deviations of 1/65536 to 32767"
            )
        data += struct.pack("<ii", *fixed)
    return data


def activation_bytes(activations: Mapping[str, ActivationScale]) -> bytes:
    """Return the step and the zero of each tensor."""
    return b"".join(
        _SCALE.pack(struct.unpack("<I", struct.pack("<f", scale.scale))[0] >> 16, scale.zero_point)
        for scale in activations.values()
    )


def read_activations(reader: ByteReader, graph: Graph) -> dict[str, ActivationScale]:
    """Read ``activation_bytes`` for the tensors of a graph.

    Raises:
        MalformedError: they are not the graph's, or a step is no number above 0.
    """
    activations = {}
    for name in scaled_tensors(graph):
        bits, zero = reader.unpack("<HB")
        if bits not in _STEPS:
            raise MalformedError(f"{reader.where}: {name} has a step that is no number above 0")
        (step,) = struct.unpack("<f", struct.pack("<I", bits << 16))
        activations[name] = ActivationScale(scale=step, zero_point=zero)
    reader.finish()
    return activations
