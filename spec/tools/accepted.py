"""The files that every reader must accept: small networks of integers from a formula.

Each is written by ``squeezenet.codec`` and by ``stream.py``, and both must give the same bytes.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import stream
from forward import logits, pixel

from squeezenet.arch.graph import Conv, MaxPool, build_graph
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import (
    AlexNetSpec,
    ConvSpec,
    FireSpec,
    HeadSpec,
    NetworkSpec,
    PoolSpec,
    SqueezeNetSpec,
    small_input,
)
from squeezenet.codec.container import encode
from squeezenet.codec.numerics import (
    bias_shift,
    mantissa_bits,
    round_activation_scale,
    round_biases,
    round_scales,
)
from squeezenet.codec.trellis import to_levels
from squeezenet.codec.types import (
    ActivationScale,
    CodebookWeights,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
)
from squeezenet.reference.integer_interpreter import IntegerInterpreter

TOLERANCE = 1e-5
"""Of logits, against the largest of them or 1: float32 sums in any order are nearer."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A file and the network in it; ``c`` is the error by which the reader in C may refuse it."""

    data: bytes
    model: CompressedModel
    c: str | None = None


def accepted() -> dict[str, Accepted]:
    """Make all files, by name."""
    made = {
        "smallest": _file(smallest()),
        "codebook": _file(_codebook()),
        "groups": _file(_groups()),
        "bypass": _file(bypass()),
        "folded": _file(_folded()),
        "raw": _raw(),
        "huffman": _huffman(),
        "huffman_codebook": _huffman_codebook(),
        "optional": _optional(),
        "labels_listed": _file(_labels_listed()),
        "labels_ilsvrc": _file(_labels_ilsvrc()),
        "extremes": _file(_extremes()),
        "many_inputs": _file(_many_inputs()),
        "integer": _file(_integer()),
        "trellis": _file(_trellis()),
    }
    for name, file in made.items():
        body = stream.File.of(file.data).section(stream.WEIGHTS).body
        raw = {1} if name == "raw" else set()
        layers = [numbers_of(layer, raw=i in raw) for i, layer in enumerate(file.model.layers)]
        assert name.startswith("huffman") or body == b"\1" + stream.weights(layers), name
    return made


def expected_json(file: Accepted) -> dict[str, Any]:
    """Return what the ``.json`` beside a file says."""
    layers = [
        {
            "name": layer.name,
            "shape": list(layer.weights.symbols_OIHW.shape),
            "weights_crc32": _crc_of_floats(layer.weights.dequantize()),
            "biases_crc32": _crc_of_floats(layer.bias_O),
        }
        for layer in file.model.layers
    ]
    answers = logits(file.model)
    expected = {
        "bytes": len(file.data),
        "crc32": f"{zlib.crc32(file.data):08x}",
        "weights": sum(layer.num_weights for layer in file.model.layers),
        "layers": layers,
        "logits": [float(f"{value:.9g}") for value in answers],
        "tolerance": float(f"{TOLERANCE * max(1.0, *map(abs, answers)):.2g}"),
    }
    if len(answers) > 100:
        del expected["logits"], expected["tolerance"]
    if file.model.is_integer:
        prep = file.model.record.preprocessing
        shape = (*prep.crop, prep.num_channels)
        values = [pixel(c, y, x) for y, x, c in np.ndindex(*shape)]
        pixels_NHWC = np.array(values, np.uint8).reshape(1, *shape)
        [answer] = IntegerInterpreter(file.model).integer_logits(pixels_NHWC)
        expected["integer_logits"] = answer.tolist()
    return expected | ({"c": file.c} if file.c else {})


def _crc_of_floats(values: Any) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(values).astype('<f4').tobytes()):08x}"


def smallest() -> CompressedModel:
    """The smallest SqueezeNet: one grey pixel, one Fire module, two classes."""
    rows = ([3], [-1], [2], [0, 1, 0, -2, 5, 0, 0, 0, -1], [1, -2, 0, 4])
    return _model(_small("smallest", classes=2), lambda conv, i: _levels(conv, rows[i]))


def minimal() -> CompressedModel:
    """The smallest network of all, of the AlexNet family: two layers, three weights."""
    spec = AlexNetSpec(
        name="x",
        convs=(ConvSpec(out_channels=1, kernel=1),),
        pools=(),
        hidden=(),
        dropout=0.0,
        num_classes=2,
        input_channels=1,
        input_size=(1, 1),
    )
    return _model(spec, lambda conv, i: _levels(conv, [3, -2][: conv.num_weights]))


def _codebook() -> CompressedModel:
    """Codebooks: float32 with all 23 bits, -0.0, nothing but zeros, values below the normal."""
    spec = _small("codebook", classes=3, channels=4, side=2)
    books = (
        [0.0, 0.1, -0.1, 1 / 3],
        [0.0, -0.0, 0.75],
        [0.0],
        [0.0, 2.0**-149, 1e-30, -(2.0**-126)],
        [0.0, 0.5, -0.25, 1.0, -1.5],
    )

    def layer(conv: Conv, i: int) -> CompressedLayer:
        codes = np.arange(conv.num_weights).reshape(conv.weight_shape) % len(books[i])
        weights = CodebookWeights(
            codes_OIHW=codes.astype(np.uint8), codebook=np.array(books[i], np.float32)
        )
        bias_O = np.array([0.3 - 0.1 * o for o in range(conv.out_channels)], np.float32)
        return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)

    return _model(spec, layer)


def _groups() -> CompressedModel:
    """Two groups, response normalisation, a pool that hangs over, BGR, a fully connected layer."""
    spec = AlexNetSpec(
        name="groups",
        convs=(
            ConvSpec(out_channels=4, kernel=3, stride=2, padding=1, lrn=True),
            ConvSpec(out_channels=4, kernel=3, padding=1, groups=2),
        ),
        pools=(PoolSpec(after="conv1", kernel=3, stride=2),),
        hidden=(4,),
        num_classes=2,
        input_size=(11, 12),
    )
    prep = Preprocessing(
        resize=16, crop=(11, 12), channels="BGR", mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0)
    )
    return _model(spec, lambda conv, i: _levels(conv, _pattern(conv, 9 * i, 3)), prep)


def bypass() -> CompressedModel:
    """Additions: an identity around one Fire module, a convolution around the other."""
    spec = dataclasses.replace(
        _small("bypass", classes=3, channels=4, side=4),
        fires=(
            FireSpec(s1x1=2, e1x1=2, e3x3=2, bypass="identity"),
            FireSpec(s1x1=2, e1x1=3, e3x3=3, bypass="conv"),
        ),
        pools=(PoolSpec(after="fire2", kernel=2, stride=2),),
        head=HeadSpec(padding=1, last_relu=True),
    )
    return _model(spec, lambda conv, i: _levels(conv, _pattern(conv, i, 7)))


def _integer() -> CompressedModel:
    """ACTIVATIONS: additions, a border, a zero in the middle, bytes that are clamped."""
    return _scaled(bypass())


def _scaled(model: CompressedModel) -> CompressedModel:
    """The model with steps of its activations that just hold."""
    graph = build_graph(model.record.spec)
    scales = {layer.name: float(layer.weights.side_values.max()) for layer in model.layers}
    steps = {"input": 1 / min(model.record.preprocessing.std)}
    activations = {}
    for i, name in enumerate(scaled_tensors(graph)):
        writers = [op for op in graph.operations if op.target == name]
        steps[name] = max(
            round_activation_scale(3 * steps[op.source] * scales[op.name]) if isinstance(op, Conv)
            else round_activation_scale(steps[op.source] / 1.5)
            for op in writers
        )  # fmt: skip
        signed = any(isinstance(op, Conv) and not op.relu for op in writers)
        activations[name] = ActivationScale(scale=steps[name], zero_point=100 + i if signed else 0)
        for op in graph.operations:
            if isinstance(op, MaxPool) and op.source == name:
                steps[op.target] = steps[name]
    return dataclasses.replace(model, activations=activations)


def _folded() -> CompressedModel:
    """A network for small inputs whose batch normalisation was folded into its convolutions."""
    whole = SqueezeNetSpec(
        name="folded",
        stem=ConvSpec(out_channels=4, kernel=7, stride=2),
        fires=(FireSpec(s1x1=2, e1x1=4, e3x3=4), FireSpec(s1x1=2, e1x1=4, e3x3=4)),
        pools=(PoolSpec(after="conv1"), PoolSpec(after="fire2")),
        num_classes=3,
    )
    spec = small_input(whole, (8, 8))
    prep = Preprocessing(
        resize=9,
        crop=(8, 8),
        channels="RGB",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )

    def folded(conv: Conv, i: int) -> CompressedLayer:
        """w gamma / sqrt(var + eps), beta - mean gamma / sqrt(var + eps), and then levels."""
        w_OIHW = np.array(_pattern(conv, i, 5)).reshape(conv.weight_shape) / 16
        o = np.arange(conv.out_channels)
        gain_O = (1 + o % 3 / 4) / np.sqrt(0.5 + o / 8 + 1e-5)
        w_OIHW, bias_O = w_OIHW * gain_O[:, None, None, None], 0.1 * o - (o % 2) * gain_O
        largest_O = np.abs(w_OIHW).max(axis=(1, 2, 3))
        scales_O = round_scales(np.where(largest_O > 0, largest_O, 1) / 7)
        return CompressedLayer(
            name=conv.name,
            weights=LevelWeights(
                levels_OIHW=np.rint(w_OIHW / scales_O[:, None, None, None]).astype(np.int8),
                scales_O=scales_O,
            ),
            bias_O=round_biases(bias_O, 0.001),
        )

    return _model(spec, folded, prep)


def _raw() -> Accepted:
    """One of the layers is raw, which the writer of ``squeezenet`` never does to one alone."""
    spec = _small("raw", classes=2, channels=3)
    model = _model(spec, lambda conv, i: _levels(conv, _pattern(conv, i, 127)))
    layers = [numbers_of(layer, raw=i == 1) for i, layer in enumerate(model.layers)]
    file = stream.File.of(encode(model))
    file.section(stream.WEIGHTS).body = b"\1" + stream.weights(layers)
    return Accepted(data=file.to_bytes(), model=model)


def _huffman() -> Accepted:
    """Entropy coder 0, which clients may refuse."""
    model = minimal()
    return Accepted(data=encode(model, "huffman"), model=model, c="unsupported version")


def _huffman_codebook() -> Accepted:
    """Entropy coder 0 with codebooks, and with gaps, some of them of more than 63 zeros."""
    book = np.array([0.0, 0.25, -0.1, 1 / 3], np.float32)

    def layer(conv: Conv, i: int) -> CompressedLayer:
        place = np.arange(conv.num_weights)
        codes = np.where(place % 97 == i, 1 + place // 97 % 3, 0)
        weights = CodebookWeights(
            codes_OIHW=codes.astype(np.uint8).reshape(conv.weight_shape), codebook=book
        )
        bias_O = np.array([0.3 - 0.1 * (o % 5) for o in range(conv.out_channels)], np.float32)
        return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)

    model = _model(_small("huffman_codebook", classes=2, channels=64), layer)
    return Accepted(data=encode(model, "huffman"), model=model, c="unsupported version")


def _optional() -> Accepted:
    """Unknown sections that are not mandatory, 16 sections in all, in another order."""
    model = smallest()
    file = stream.File.of(encode(model))
    unknown = [
        stream.Section(kind=kind, body=bytes([kind]) * (kind % 5)) for kind in range(245, 256)
    ]
    file.sections = [*unknown[:6], *reversed(file.sections), *unknown[6:]]
    return Accepted(data=file.to_bytes(), model=model)


def _labels_listed() -> CompressedModel:
    """Ids that are listed; names in UTF-8 of one to four bytes, one of them twice."""
    names = ("cat", "kočka", "猫", "🐈", "cat")
    spec = _small("labels_listed", classes=len(names))
    model = _model(spec, lambda conv, i: _levels(conv, _pattern(conv, i, 2)))
    ids = tuple(f"n{i:08}" for i in range(len(names)))
    return dataclasses.replace(
        model, record=dataclasses.replace(model.record, class_names=names, class_ids=ids)
    )


def _labels_ilsvrc() -> CompressedModel:
    """The ids of ILSVRC 2012, which the file only names."""
    spec = _small("labels_ilsvrc", classes=1000)
    model = _model(spec, lambda conv, i: _levels(conv, _pattern(conv, i, 1), spread=1))
    record = dataclasses.replace(model.record, class_ids=imagenet_classes()[1])
    return dataclasses.replace(model, record=record)


def _extremes() -> CompressedModel:
    """Levels of 127, channels and a layer of zeros, smallest and largest scales and biases."""
    spec = _small("extremes", classes=4, channels=4)

    def layer(conv: Conv, i: int) -> CompressedLayer:
        levels = np.array(_pattern(conv, i, 1)).reshape(conv.weight_shape) * 127
        scales_O = np.full(conv.out_channels, 2.0**-7, np.float32)
        bias_O = np.zeros(conv.out_channels, np.float32)
        if i == 1:
            levels[:] = 0
        elif i == 3:
            scales_O = (np.array([1 << 18, 8159 << 18], np.uint32)).view(np.float32)
            levels[1] = 0
            bias_O[:] = (2.0**-30, -(2.0**-6))
        elif i == 4:
            levels[2] = 0
            bias_O[:] = (1 << 24, -(1 << 24), 0, 1)
        weights = LevelWeights(levels_OIHW=levels.astype(np.int8), scales_O=scales_O)
        return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)

    return _model(spec, layer)


def _trellis() -> CompressedModel:
    """Version 2: levels on the trellis, up to 127, beside a layer of others; for integers too."""
    spec = _small("trellis", classes=3, channels=4, side=4)

    def layer(conv: Conv, i: int) -> CompressedLayer:
        plain = _levels(conv, _pattern(conv, i, 2))
        if i == 1:
            return plain
        codes_OP = np.array(_pattern(conv, i, 3 if i else 63)).reshape(conv.out_channels, -1)
        if i == 3:
            codes_OP[:, :3] = (1, 1, 64)
        rows = codes_OP.tolist()
        for row in rows:
            to_levels(row)
        levels = np.array(rows).reshape(conv.weight_shape).astype(np.int8)
        assert isinstance(plain.weights, LevelWeights)
        weights = dataclasses.replace(plain.weights, levels_OIHW=levels, trellis=True)
        return dataclasses.replace(plain, weights=weights)

    return _scaled(_model(spec, layer))


def _many_inputs() -> CompressedModel:
    """520 input channels: the last eight share the memory of the first."""
    spec = dataclasses.replace(
        _small("many_inputs", classes=2), stem=ConvSpec(out_channels=520, kernel=1)
    )
    return _model(spec, lambda conv, i: _levels(conv, _pattern(conv, i, 2), spread=1))


def _small(name: str, *, classes: int, channels: int = 1, side: int = 1) -> SqueezeNetSpec:
    """A SqueezeNet of one Fire module for grey pictures."""
    half = max(1, channels // 2)
    return SqueezeNetSpec(
        name=name,
        stem=ConvSpec(out_channels=channels, kernel=1),
        fires=(FireSpec(s1x1=half, e1x1=half, e3x3=half),),
        pools=(),
        head=HeadSpec(dropout=0.0),
        num_classes=classes,
        input_channels=1,
        input_size=(side, side),
    )


def _model(
    spec: NetworkSpec,
    layer: Callable[[Conv, int], CompressedLayer],
    prep: Preprocessing | None = None,
) -> CompressedModel:
    grey = Preprocessing(
        resize=max(spec.input_size), crop=spec.input_size, channels="L", mean=(8.0,), std=(4.0,)
    )
    record = ModelRecord(
        spec=spec,
        preprocessing=prep or grey,
        class_names=tuple(f"{i}" for i in range(spec.num_classes)),
    )
    convs = build_graph(spec).convs
    return CompressedModel(
        record=record, layers=tuple(layer(conv, i) for i, conv in enumerate(convs))
    )


def _pattern(conv: Conv, seed: int, max_level: int) -> list[int]:
    """Levels of -max_level to max_level in no particular order, half of them zero."""
    state = 12345 + seed
    levels = []
    for _ in range(conv.num_weights):
        state = (state * 1103515245 + 12345) % 2**31
        levels.append((state >> 8) % (2 * max_level + 1) - max_level if state >> 28 & 1 else 0)
    return levels


def _levels(conv: Conv, flat: Sequence[int], spread: int = 4) -> CompressedLayer:
    """Scales of 1/8 to 1/2 and biases in eighths, ``spread`` of each: most sums are exact."""
    o = np.arange(conv.out_channels)
    scales_O = ((124 + o % spread % 3) * 32 + 8 * (o % spread)).astype(np.uint32) << 18
    weights = LevelWeights(
        levels_OIHW=np.array(flat, np.int8).reshape(conv.weight_shape),
        scales_O=scales_O.astype(np.uint32).view(np.float32),
    )
    bias_O = ((1 + o % spread) / 8).astype(np.float32)
    return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)


def _file(model: CompressedModel) -> Accepted:
    return Accepted(data=encode(model), model=model)


def numbers_of(layer: CompressedLayer, *, raw: bool = False) -> stream.Layer:
    """Return a layer as ``stream.py`` writes it."""
    weights = layer.weights
    rows_OK = weights.symbols_OIHW.reshape(len(layer.bias_O), -1)
    shape = {"inputs": rows_OK.shape[1] // _area(layer), "kernel": weights.symbols_OIHW.shape[2:]}
    if isinstance(weights, LevelWeights):
        shift = bias_shift(layer.bias_O)
        codes = (weights.scales_O.view(np.uint32) >> 18).tolist()
        channels = [
            stream.Channel(row=row, scale=scale, bias=round(float(bias) * 2**shift))
            for row, scale, bias in zip(
                rows_OK.view(np.int8).tolist(), codes, layer.bias_O, strict=True
            )
        ]
        kind = 2 if weights.trellis else 1
        return stream.Layer(**shape, channels=channels, representation=kind, raw=raw, shift=shift)
    words = weights.codebook.view(np.uint32).tolist()
    used = weights.codebook[np.unique(weights.codes_OIHW)].view(np.uint32).tolist()
    negatives = sorted(word & 0x7FFFFFFF for word in used if word >> 31)
    positives = sorted(word for word in used if word and not word >> 31)
    drop = 23 - mantissa_bits(np.array(used, np.uint32).view(np.float32))
    drop_bias = 23 - mantissa_bits(layer.bias_O)
    rank_of = {0: 0}
    rank_of |= {key | 1 << 31: -1 - k for k, key in enumerate(negatives)}
    rank_of |= {key: 1 + k for k, key in enumerate(positives)}
    return stream.Layer(
        **shape,
        representation=0,
        raw=raw,
        mantissa=23 - drop,
        negatives=[key >> drop for key in negatives],
        positives=[key >> drop for key in positives],
        bias_mantissa=23 - drop_bias,
        channels=[
            stream.Channel(
                row=[rank_of[words[code]] for code in row],
                bias=(word >> 23 & 255, word >> 31, (word & 0x7FFFFF) >> drop_bias),
            )
            for row, word in zip(
                rows_OK.tolist(), layer.bias_O.view(np.uint32).tolist(), strict=True
            )
        ],
    )


def _area(layer: CompressedLayer) -> int:
    _, _, height, width = layer.weights.symbols_OIHW.shape
    return int(height * width)
