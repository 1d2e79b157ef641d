"""The worked example of spec/FORMAT.md: ``accept/smallest.sqz`` explained byte by byte.

Every number is taken from the file or from the oracle while it decodes; none is written here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import stream
from accepted import accepted
from stream import CRC_BYTES, ENTRY_BYTES, HEADER_BYTES

from squeezenet.arch.graph import build_graph
from squeezenet.codec.container import Section
from squeezenet.codec.range_coder import Decoder

_CODES = {1: "convolution", 2: "max pool", 3: "addition", 4: "global average pool"}
_HEADER = (
    (8, "magic"), (1, "version"), (1, "sections"), (2, "0"), (4, "bytes of the whole file"),
    (4, "weights"), (4, "weights of the largest output channel"), (4, "peak activations"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Step:
    """The decoder before one bit; ``context`` and ``probability`` are None for a plain bit."""

    context: int | None
    probability: int | None
    range: int
    code: int
    bound: int
    bit: int


class RecordingDecoder(Decoder):
    """The oracle, telling what it does."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.steps: list[Step] = []
        self._context: int | None = None
        self._before = self._range

    def bit(self, context: int, bit: bool = False) -> bool:
        self._context = context
        result = super().bit(context, bit)
        self._context = None
        return result

    def _narrow(self, bound: int, bit: bool) -> bool:
        context = self._context
        plain = context is None
        probability = None if context is None else self._probability[context]
        before = (self._before, self._code)
        first = super()._narrow(bound, bit)
        self.steps.append(
            Step(
                context=context,
                probability=probability,
                range=before[0],
                code=before[1],
                bound=bound,
                bit=first != plain,  # of a plain bit the lower half is the 0
            )
        )
        return first

    def _renormalise(self) -> None:
        super()._renormalise()
        self._before = self._range


def worked_example() -> str:
    """Return the section's Markdown, without its heading."""
    data = accepted()["smallest"].data
    parts = [
        "`spec/vectors/accept/smallest.sqz`, the smallest SqueezeNet: one grey pixel, a stem, one "
        "Fire module, two classes. `spec/tools/make_vectors.py` writes this section and a test "
        "holds it to the file.",
        "```\n" + "\n".join(_hex_lines(data)) + "\n```",
        _table(("offset", "bytes", "what"), _pieces(data)),
        *_weights(data),
    ]
    return "\n\n".join(parts) + "\n"


def _hex_lines(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 16):
        yield f"{at:04x}  {data[at : at + 16].hex(' ')}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    cells = [tuple(map(str, row)) for row in rows]
    rule = ["--:" if cells[0][0].isdigit() else "---", *["---"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *cells))


def _pieces(data: bytes) -> Iterator[tuple[object, ...]]:
    at = 0
    for size, what in _HEADER:
        piece = data[at : at + size]
        value = "" if what in ("magic", "0") else f": {int.from_bytes(piece, 'little')}"
        yield at, _hex(piece), what + value
        at += size
    sections = stream.File.of(data).sections
    for _ in sections:
        entry = data[at : at + ENTRY_BYTES]
        kind, flags, _, size, crc = struct.unpack("<BBHII", entry)
        mandatory = "mandatory" if flags else "not mandatory"
        what = f"{Section(kind).name}, {mandatory}, {size} bytes, CRC-32 {crc:08x}"
        yield at, _hex(entry), what
        at += ENTRY_BYTES
    assert at == HEADER_BYTES + ENTRY_BYTES * len(sections)
    yield at, _hex(data[at : at + CRC_BYTES]), "CRC-32 of all before"
    at += CRC_BYTES
    for section in sections:
        inside = {stream.GRAPH: _graph, stream.INPUT: _input}.get(section.kind, _rest)
        for size, what in inside(section):
            yield at, _hex(data[at : at + size]), f"{Section(section.kind).name}: {what}"
            at += size
    yield at, _hex(data[at:]), "CRC-32 of all before"
    assert at == len(data) - CRC_BYTES


def _hex(data: bytes) -> str:
    return f"`{data.hex(' ')}`" if len(data) <= 16 else f"`{data[:8].hex(' ')}` ..."


def _graph(section: stream.Section) -> Iterator[tuple[int, str]]:
    network = stream.Network.of(section.body)
    yield len(stream.count(len(network.tensors))), f"{len(network.tensors)} tensors"
    for i, shape in enumerate(network.tensors):
        yield sum(len(stream.count(n)) for n in shape), f"tensor {i}: {'x'.join(map(str, shape))}"
    yield len(stream.count(len(network.operations))), f"{len(network.operations)} operations"
    for i, op in enumerate(network.operations):
        what = f"operation {i}: {_CODES[op[0]]}, tensor {op[1]} to tensor {op[2]}"
        if op[0] == 1:
            what += (
                f" from channel {op[3]}, {op[4]} channels, kernel {op[5]}x{op[6]}, stride {op[7]}, "
                f"padding {op[8]}, groups {op[9]}, {'ReLU' if op[10] else 'no ReLU'}"
            )
        yield sum(len(stream.count(n)) for n in op), what


def _input(section: stream.Section) -> Iterator[tuple[int, str]]:
    channels, resize, height, width, mean, deviation = struct.unpack("<BHHHii", section.body)
    yield 1, f"channels {channels}, luma"
    yield 2, f"short side of {resize} pixel"
    yield 4, f"crop {height}x{width}"
    yield 8, f"mean {mean / 65536:g}, deviation {deviation / 65536:g}"


def _rest(section: stream.Section) -> Iterator[tuple[int, str]]:
    body = section.body
    if section.kind == stream.WEIGHTS:
        yield 1, "entropy coder 1"
        yield len(body) - 1, "the stream, see below"
        return
    if section.kind == stream.LABELS:
        yield 1, f"ids {body[0]}"
        body = body[1:]
    [length] = struct.unpack_from("<I", body)
    text = _text(body[4:], length)
    yield 4, f"a text of {length} bytes"
    shown = json.dumps(text[:50]).replace("|", "\\|")
    yield len(body) - 4, f"`{shown}`" + (" and so on" if len(text) > 50 else "")


def _text(data: bytes, length: int) -> str:
    decoder = Decoder(data)
    found, before = bytearray(), 0
    for _ in range(length):
        before = decoder.byte(before)
        found.append(before)
    assert decoder.at_end
    return found.decode()


def _weights(data: bytes) -> Iterator[str]:
    body = stream.File.of(data).section(stream.WEIGHTS).body
    decoder = RecordingDecoder(body[1:])
    layers = list(_layers(decoder))
    assert decoder.at_end
    rows: list[tuple[object, ...]] = []
    names = [name for name, count in layers[0][0] for _ in range(count)]
    for i, (name, step) in enumerate(zip(names, decoder.steps, strict=False)):
        context = "plain" if step.context is None else step.context
        probability = "" if step.probability is None else step.probability
        rows.append(
            (i + 1, name, context, probability, f"{step.range:08x}", f"{step.code:08x}",
             f"{step.bound:08x}", int(step.bit))
        )  # fmt: skip
    yield (
        f"The first layer's {len(names)} of the {len(decoder.steps)} bits of WEIGHTS, with the "
        "decoder before each: a `p` of 32768 is that of a new context; range, code and "
        "bound (of a plain bit: the half) are hexadecimal."
    )
    yield _table(("bit", "of", "context", "p", "range", "code", "bound", "is"), iter(rows))
    yield "And all that comes out:"
    yield _table(("layer", "shape OIHW", "shift", "scale, q and levels of each output channel"),
                 (row for _, row in layers))  # fmt: skip


def _layers(
    decoder: RecordingDecoder,
) -> Iterator[tuple[list[tuple[str, int]], tuple[object, ...]]]:
    """Decode layers of levels; yield names for numbers of bits, and a row of what came out."""
    shift = scale = 0
    done = 0

    def bits() -> int:
        nonlocal done
        before, done = done, len(decoder.steps)
        return done - before

    for conv in build_graph(accepted()["smallest"].model.record.spec).convs:
        names: list[tuple[str, int]] = []
        o, i, h, w = conv.weight_shape
        assert decoder.plain(2) == 1
        names.append(("representation", bits()))
        assert decoder.plain(1) == 0
        names.append(("raw", bits()))
        decoder.begin(i, h, w)
        shift += decoder.number(stream.SHIFT)
        names.append(("shift", bits()))
        channels = []
        for _ in range(o):
            scale += decoder.number(stream.SCALE)
            names.append(("scale", bits()))
            q = decoder.number(stream.BIAS)
            names.append(("q", bits()))
            row = [0] * (i * h * w)
            decoder.channel(row)
            names.append(("level", bits()))
            channels.append(f"{scale}, {q}: {' '.join(map(str, row))}")
        yield names, (conv.name, "x".join(map(str, (o, i, h, w))), shift, "; ".join(channels))
