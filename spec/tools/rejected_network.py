"""Rejected files whose graph or weights break one MUST. GRAPH is wrong beside a good RECORD: a
reader of either finds a fault, the same kind of it; a network beyond the limits stands in both."""

from __future__ import annotations

import struct
from collections.abc import Callable

import stream
from accepted import bypass, smallest
from draft import LIMIT, MALFORMED, VERSION, Cases, Draft, require_good
from stream import GRAPH, WEIGHTS, Channel

CONV, POOL, ADD, AVERAGE, NORM = range(1, 6)
# Places in an operation's numbers, and the operations and tensors of the smallest network.
SOURCE, TARGET, START, CHANNELS, HEIGHT, WIDTH, STRIDE, PADDING, GROUPS, RELU = range(1, 11)
CONV1, SQUEEZE, EXPAND1X1, EXPAND3X3, CONV10, AVGPOOL = range(6)
X, X_CONV1, X_SQUEEZE, X_FIRE2, X_CONV10, X_LOGITS = range(6)


def graph(cases: Cases) -> None:
    """Clauses of GRAPH."""
    _graph_bytes(cases)
    for name, why, op, place, value in (
        ("code_0", "operation 0", AVGPOOL, 0, 0),
        ("code_6", "operation 6", AVGPOOL, 0, 6),
        ("source", "a source that is no tensor", SQUEEZE, SOURCE, 6),
        ("target", "a target that is no tensor", AVGPOOL, TARGET, 6),
        ("gap", "channel 1 is written before channel 0", EXPAND1X1, START, 1),
        ("overlap", "channel 0 is written twice", EXPAND3X3, START, 0),
        ("beyond", "channels are written that the target has not", EXPAND3X3, CHANNELS, 2),
        ("half_written", "a tensor is read with a channel missing", EXPAND3X3, TARGET, X_LOGITS),
        ("read_early", "a tensor is read before it is written", SQUEEZE, SOURCE, X_FIRE2),
        ("reads_itself", "a convolution reads its target", SQUEEZE, SOURCE, X_SQUEEZE),
        ("writes_input", "the input is written", SQUEEZE, TARGET, X),
        ("channels_0", "no output channels", CONV1, CHANNELS, 0),
        ("kernel_0", "a kernel of no rows", CONV1, HEIGHT, 0),
        ("stride_0", "a stride of 0", CONV1, STRIDE, 0),
        ("groups_0", "no groups", CONV1, GROUPS, 0),
        ("groups", "one channel in two groups", CONV1, GROUPS, 2),
        ("relu_2", "2 for a ReLU", CONV1, RELU, 2),
        ("shape", "padding without room for it in the target", EXPAND3X3, PADDING, 2),
        ("kernel", "a kernel larger than what it slides over", EXPAND1X1, WIDTH, 2),
    ):
        with cases.case(f"graph_{name}", MALFORMED, why, model=smallest) as d:
            d.network.operations[op][place] = value
    with cases.case(
        "graph_never_written", MALFORMED, "a tensor that nothing writes", model=smallest
    ) as d:
        d.network.tensors.append([1, 1, 1])
    with cases.case("graph_tensor_0", MALFORMED, "a tensor without rows", model=smallest) as d:
        d.network.tensors[X_LOGITS][1] = 0
    with cases.case(
        "graph_average", MALFORMED, "a global average of two columns", model=smallest
    ) as d:
        d.network.tensors[X_LOGITS][2] = 2
    with cases.case(
        "graph_norm", MALFORMED, "a normalisation that changes the shape", model=smallest
    ) as d:
        d.network.operations[AVGPOOL] = [NORM, X_CONV10, X_LOGITS, 5]
        d.network.tensors[X_LOGITS][0] = 1
    with cases.case(
        "graph_norm_even", MALFORMED, "a normalisation over two channels", model=smallest
    ) as d:
        d.network.operations[AVGPOOL] = [NORM, X_CONV10, X_LOGITS, 2]
    _pools_and_additions(cases)


def _graph_bytes(cases: Cases) -> None:
    for name, why, change in (
        ("empty", "nothing in it, but for a byte", lambda data: b"\0"),
        ("cut", "ends inside the last operation", lambda data: data[:-1]),
        ("rest", "a byte behind the last operation", lambda data: data + b"\0"),
        ("count_long", "6 in two bytes", lambda data: stream.count(6, 2) + data[1:]),
        ("count_28", "a count of over 28 bits", lambda data: b"\xff" * 4 + b"\1" + data[1:]),
    ):
        with cases.case(f"graph_{name}", MALFORMED, why, model=smallest) as d:
            d.file.section(GRAPH).body = change(d.body(GRAPH))
    with cases.case("graph_no_operations", MALFORMED, "no operations", model=smallest) as d:
        d.network.operations = []


def _pools_and_additions(cases: Cases) -> None:
    for name, why, code, place, value in (
        ("pool_kernel", "a max pool larger than its source", POOL, 3, 9),
        ("pool_stride_0", "a max pool with a stride of 0", POOL, 4, 0),
        ("pool_shape", "a max pool whose stride gives another shape", POOL, 4, 1),
        ("pool_channels", "a max pool that changes the channels", POOL, TARGET, X_SQUEEZE),
        ("addition_other", "the other source is no tensor", ADD, 3, 99),
        ("addition_shape", "the other source has another shape", ADD, 3, X),
    ):
        with cases.case(f"graph_{name}", MALFORMED, why, model=bypass) as d:
            [op] = [op for op in d.network.operations if op[0] == code][:1]
            op[place] = value


def limits(cases: Cases) -> None:
    """Networks beyond the limits, in GRAPH and in RECORD."""
    with cases.case("limit_tensors", LIMIT, "claims 4,097 tensors", model=smallest) as d:
        d.file.section(GRAPH).body = stream.count(4097) + d.body(GRAPH)[1:]
    with cases.case("limit_operations", LIMIT, "claims 4,097 operations", model=smallest) as d:
        tensors, operations = stream.Network.of(d.body(GRAPH)), d.network.operations
        tensors.operations = []
        head = tensors.to_bytes()[:-1]
        d.file.section(GRAPH).body = (
            head + stream.count(4097) + b"".join(stream.count(n) for op in operations for n in op)
        )
    with cases.case("limit_tensor", LIMIT, "a tensor of 2^28 elements", model=smallest) as d:
        _widen(d, side=4096, stem=16)
    with cases.case(
        "limit_all_tensors", LIMIT, "over 2^28 elements in all tensors", model=smallest
    ) as d:
        _widen(d, side=4096, stem=8, expand=4)
    with cases.case(
        "limit_windows", LIMIT, "over 2^28 elements in a convolution's windows", model=smallest
    ) as d:
        _widen(d, side=2048, squeeze=8, expand=4)
    with cases.case("limit_macs", LIMIT, "over 2^35 multiply-accumulates", model=smallest) as d:
        _widen(d, side=512, stem=144, kernel=31)
    with cases.case(
        "limit_weights", LIMIT, "over 2^27 weights, of which the header is silent", model=smallest
    ) as d:
        _widen(d, side=1, squeeze=16384, expand=16384)


def _widen(
    d: Draft, *, side: int, stem: int = 1, kernel: int = 1, squeeze: int = 1, expand: int = 1
) -> None:
    """Change a draft of the smallest network to other dimensions; the weights stay too few."""
    spec, prep = d.record["spec"], d.record["preprocessing"]
    spec["input_size"] = prep["crop"] = [side, side]
    spec["stem"] |= {"out_channels": stem, "kernel": kernel, "padding": kernel // 2}
    spec["fires"][0] |= {"s1x1": squeeze, "e1x1": expand, "e3x3": expand}
    prep["resize"] = side
    d.input[1:4] = [side] * 3
    classes = d.network.tensors[X_CONV10][0]
    for x, channels in enumerate((1, stem, squeeze, 2 * expand, classes)):
        d.network.tensors[x] = [channels, side, side]
    ops = d.network.operations
    ops[CONV1][CHANNELS : PADDING + 1] = [stem, kernel, kernel, 1, kernel // 2]
    ops[SQUEEZE][CHANNELS] = squeeze
    ops[EXPAND1X1][CHANNELS] = ops[EXPAND3X3][START] = ops[EXPAND3X3][CHANNELS] = expand


def weights(cases: Cases) -> None:
    """Clauses of the coder and of WEIGHTS."""
    with cases.case("coder_2", VERSION, "entropy coder 2") as d:
        d.file.section(WEIGHTS).body = b"\2" + d.body(WEIGHTS)[1:]
    with cases.case("stream_rest", MALFORMED, "bytes behind the stream") as d:
        d.file.section(WEIGHTS).body = d.body(WEIGHTS) + bytes(5)
    with cases.case("stream_short", MALFORMED, "half of the stream is missing") as d:
        d.file.section(WEIGHTS).body = d.body(WEIGHTS)[:6]
    with cases.case("representation_2", MALFORMED, "representation 2 in version 1") as d:
        d.layers[0].representation = 2
    with cases.case("representation_3", MALFORMED, "representation 3 in version 2") as d:
        d.file.version = 2
        d.layers[0].representation = 3
    for name, why, change in _TRELLIS_FAULTS:
        with cases.case(f"trellis_{name}", MALFORMED, why) as d:
            d.file.version = 2
            d.layers[0].representation = 2
            change(d.layers[0])
    for name, why, i, change in _LEVEL_FAULTS:
        with cases.case(f"level_{name}", MALFORMED, why) as d:
            change(d.layers[i])
    for name, why, codes in _CODEBOOK_FAULTS:
        with cases.case(f"codebook_{name}", MALFORMED, why) as d:
            layer = d.layers[0]
            layer.representation = 0
            layer.channels = [Channel(row=[0], bias=(127, 0, 0))]
            codes(layer)


def _set(**values: object) -> Callable[[stream.Layer], None]:
    return lambda layer: layer.__dict__.update(values)


def _channel(**values: object) -> Callable[[stream.Layer], None]:
    return lambda layer: layer.channels[0].__dict__.update(values)


def _raw(level: int) -> Callable[[stream.Layer], None]:
    return lambda layer: layer.__dict__.update(raw=True, channels=[Channel(row=[level], scale=9)])


_LEVEL_FAULTS = (
    ("128", "a level of 128", 0, _channel(row=[128])),
    ("minus_128", "a level of -128, which fits a byte", 0, _channel(row=[-128])),
    ("raw_128", "a raw level of 128", 0, _raw(128)),
    ("raw_minus_256", "a raw level of -256", 0, _raw(-256)),
    ("shift_31", "a shift of 31", 0, _set(shift=31)),
    ("shift_negative", "a shift of -1", 0, _set(shift=-1)),
    ("scale_0", "a scale of 0", 1, _channel(scale=0)),
    ("scale_8160", "a scale of 8,160", 1, _channel(scale=8160)),
    ("bias", "a bias of 2^24 + 1", 0, _channel(bias=(1 << 24) + 1)),
)
_TRELLIS_FAULTS = (
    ("128", "a level of 128 on the trellis", _channel(row=[128])),
    ("minus_128", "a level of -128 on the trellis, which fits a byte", _channel(row=[-128])),
    ("510", "a level of 510 on the trellis", _channel(row=[510])),
    ("raw", "raw and on the trellis", _raw(2)),
)
_CODEBOOK_FAULTS = (
    ("mantissa", "m of 24", _set(mantissa=24)),
    ("256", "128 negative and 128 positive values",
     _set(negatives=[*range(128)], positives=[*range(1, 129)])),
    ("same", "a value twice", _set(positives=[127, 127])),
    ("shrinks", "a magnitude below the one before", _set(negatives=[127, 126])),
    ("infinite", "an infinite value", _set(positives=[127, 255])),
    ("nan", "a value that is no number", _set(mantissa=1, negatives=[511])),
    ("overflow", "magnitudes beyond 2^32", _set(positives=[2**31 - 1, 2**32 - 2, 2**33])),
    ("negative", "the first magnitude is below 0", _set(positives=[-1])),
    ("zero", "0 among the positive values", _set(positives=[0])),
    ("code", "a code of 1 without a positive value", _channel(row=[1])),
    ("code_negative", "a code of -2 with one negative value",
     lambda layer: (_set(negatives=[127])(layer), _channel(row=[-2])(layer))),
    ("raw_minus_256", "a raw code of -256", lambda layer: (
        _set(raw=True, negatives=[*range(255)])(layer), _channel(row=[-256])(layer))),
    ("bias_mantissa", "m of the biases of 24", lambda layer: (
        _set(bias_mantissa=24)(layer), _channel(bias=(127, 0, 0))(layer))),
    ("bias_infinite", "an exponent of 255", _channel(bias=(255, 0, 0))),
    ("bias_exponent", "an exponent of -1", _channel(bias=(-1, 0, 0))),
)  # fmt: skip


def huffman(cases: Cases) -> None:
    """Clauses of the Huffman coder."""
    for name, why, layers in (
        ("rest", "a byte behind the last layer", lambda a, b: a + b + b"\0"),
        ("entries", "two weights for a layer of one", lambda a, b: _conv(count=2) + b),
        ("way", "way 2", lambda a, b: _conv(way=2) + b),
        ("lengths", "code lengths that make no code", lambda a, b: _conv(lengths=0x21) + b),
        ("padding", "a one behind the last code", lambda a, b: _conv(codes=b"\1") + b),
        ("representation", "representation 2", lambda a, b: _conv(representation=2) + b),
        ("scale", "a scale below 0", lambda a, b: _conv(scale=-1.0) + b),
        (
            "scale_fine",
            "a scale with six bits behind the first",
            lambda a, b: _conv(scale=65 / 64) + b,
        ),
        ("bias", "an infinite bias", lambda a, b: _conv(bias=float("inf")) + b),
        ("level", "a level of -128", lambda a, b: _conv(symbol=128) + b),
    ):
        with cases.case(f"huffman_{name}", MALFORMED, why, c=VERSION) as d:
            first, second = _conv(), _conv(outputs=2)
            d.file.section(WEIGHTS).body = b"\0" + first + second
            require_good(d)
            d.file.section(WEIGHTS).body = b"\0" + layers(first, second)


def _conv(
    *, inputs: int = 1, outputs: int = 1, way: int = 0, count: int | None = None,
    lengths: int = 1, symbol: int = 0, codes: bytes | None = None, scale: float = 1.0,
    bias: float = 0.0, representation: int = 1,
) -> bytes:  # fmt: skip
    """Return a layer of levels that are all ``symbol``, which has a code of one bit, 0."""
    num = inputs * outputs
    nibbles = bytearray(128)
    nibbles[symbol // 2] = lengths << 4 * (symbol % 2) if lengths < 16 else lengths
    codes = bytes((num + 7) // 8) if codes is None else codes
    return _head(
        bytes([representation])
        + struct.pack("<f", scale) * outputs
        + struct.pack("<f", bias) * outputs
        + struct.pack("<BI", way, num if count is None else count)
        + nibbles
        + struct.pack("<I", len(codes))
        + codes
    )


def _head(layer: bytes) -> bytes:
    return struct.pack("<I", len(layer)) + layer
