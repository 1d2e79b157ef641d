"""Preprocessing as part of the graph: pictures of any size to the network's input.

Bit for bit ``images.preprocess`` and spec/INTEGER.md, "From a picture to pixels". ONNX's own Resize
is antialiased only from opset 18 on, and rounds otherwise. So the integer weights of both passes
are computed from the picture's size, and applied as matrix products. Products and sums are integers
below 2^24, which float32 holds exactly.

Legend: N images; C channels; H W height and width of the picture; h w of the crop; n, m sides
before and after the resize; i, j places among m and n.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.export.onnx.builder import BATCH, INPUT, OnnxBuilder

IMAGE = "image"
_BITS = 14
"""Fractional bits of the filter weights: spec/INTEGER.md, "From a picture to pixels"."""
_LUMA = (19595, 38470, 7471)
_LUMA_BITS = 16


def image_input() -> Any:
    """Return the description of the input of pictures: uint8 (N, H, W, 3), RGB, of one size."""
    return helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [BATCH, "H", "W", 3])


def write_preprocessing(builder: OnnxBuilder, preprocessing: Preprocessing) -> None:
    """Append resize, crop, channels and normalisation, from ``image`` to ``input``."""
    node, constant = builder.node, builder.constant
    shape = node("Shape", [IMAGE], "image.shape")
    height, width = (
        node("Gather", [shape, constant(f"{name}.axis", np.array(axis, np.int64))], name)
        for axis, name in ((1, "image.height"), (2, "image.width"))
    )
    short = node("Min", [height, width], "image.short")
    crop_h, crop_w = preprocessing.crop
    rows_hH = _filters(builder, "rows", height, short, preprocessing.resize, crop_h)
    columns_wW = _filters(builder, "columns", width, short, preprocessing.resize, crop_w)
    columns_Ww = node("Transpose", [columns_wW], "columns.transposed", perm=[1, 0])
    planes = node("Transpose", [IMAGE], "image.planes", perm=[0, 3, 1, 2])
    x_NCHW = node("Cast", [planes], "image.float", to=TensorProto.FLOAT)
    x_NCHw = node("MatMul", [x_NCHW, columns_Ww], "columns.sum")
    x_NCHw = _shifted(builder, x_NCHw, _BITS, "columns.pixels")
    x_NChw = node("MatMul", [rows_hH, x_NCHw], "rows.sum")
    x_NChw = _shifted(builder, x_NChw, _BITS, "rows.pixels")
    x_NChw = _channels(builder, x_NChw, preprocessing)
    mean, std = (
        constant(f"pixels.{name}", np.array(values, np.float32).reshape(1, -1, 1, 1))
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std))
    )
    node("Div", [node("Sub", [x_NChw, mean], "pixels.centred"), std], INPUT)


def _filters(builder: OnnxBuilder, name: str, side: str, short: str, resize: int, crop: int) -> str:
    """Compute the weights of one pass, float32 (crop, n), in units of 2^-14.

    ``side`` is n and ``short`` the short side, int64 scalars.
    """

    def number(value: int) -> str:
        return builder.constant(f"integer.{value}", np.array(value, np.int64))

    def calculate(kind: str, a: str, b: str, what: str) -> str:
        return builder.node(kind, [a, b], f"{name}.{what}")

    # m = floor((2 n r + short) / (2 short)); the crop starts at (m - crop) / 2.
    doubled = calculate("Mul", side, number(2 * resize), "doubled")
    short_2 = calculate("Mul", short, number(2), "short_2")
    m = calculate("Div", calculate("Add", doubled, short, "rounded"), short_2, "resized")
    first = calculate("Div", calculate("Sub", m, number(crop), "margin"), number(2), "first")
    odd_places = 2 * np.arange(crop, dtype=np.int64)[:, None] + 1
    odd_i = calculate(
        "Add",
        builder.constant(f"{name}.places", odd_places),
        calculate("Mul", first, number(2), "first_2"),
        "odd_i",
    )
    j = builder.node("Range", [number(0), side, number(1)], f"{name}.j")
    odd_j = calculate("Add", calculate("Mul", j, number(2), "j_2"), number(1), "odd_j")
    # T = max(0, 2 max(n, m) - |(2j + 1) m - (2i + 1) n|)
    apart = calculate(
        "Sub",
        calculate("Mul", odd_j, m, "places_in"),
        calculate("Mul", odd_i, side, "places_out"),
        "apart",
    )
    longer = calculate("Max", side, m, "longer")
    support = calculate("Mul", longer, number(2), "support")
    apart = builder.node("Abs", [apart], f"{name}.distance")
    triangle = calculate("Max", calculate("Sub", support, apart, "slope"), number(0), "triangle")
    # weight = the difference of floor(2^14 F(j) / F + 1/2), F the running sums of T
    running = builder.node("CumSum", [triangle, number(1)], f"{name}.running")
    before = calculate("Sub", running, triangle, "before")
    axes = builder.constant("integer.axes", np.array([1], np.int64))
    total = builder.node("ReduceSum", [triangle, axes], f"{name}.total", keepdims=1)
    total_2 = calculate("Mul", total, number(2), "total_2")

    def share(sums: str, what: str) -> str:
        scaled = calculate("Mul", sums, number(1 << (_BITS + 1)), f"{what}.scaled")
        return calculate("Div", calculate("Add", scaled, total, f"{what}.half"), total_2, what)

    weights = calculate("Sub", share(running, "upto"), share(before, "below"), "integer_weights")
    return builder.node("Cast", [weights], f"{name}.weights", to=TensorProto.FLOAT)


def _shifted(builder: OnnxBuilder, sums: str, bits: int, name: str) -> str:
    """Return (sums + 2^(bits - 1)) >> bits, for integers in float32."""
    half = builder.constant(f"half.{bits}", np.array(1 << (bits - 1), np.float32))
    unit = builder.constant(f"unit.{bits}", np.array(0.5**bits, np.float32))
    rounded = builder.node("Add", [sums, half], f"{name}.rounded")
    return builder.node("Floor", [builder.node("Mul", [rounded, unit], f"{name}.scaled")], name)


def _channels(builder: OnnxBuilder, x_NChw: str, preprocessing: Preprocessing) -> str:
    """Convert RGB to the network's channels, as ``images.preprocess.order_channels`` does."""
    if preprocessing.channels == "RGB":
        return x_NChw
    if preprocessing.channels == "BGR":
        order = builder.constant("channels.order", np.array([2, 1, 0], np.int64))
        return builder.node("Gather", [x_NChw, order], "channels.bgr", axis=1)
    weights = np.array(_LUMA, np.float32).reshape(1, -1, 1, 1)
    parts = builder.node(
        "Mul", [x_NChw, builder.constant("channels.weights", weights)], "channels.parts"
    )
    axes = builder.constant("integer.axes", np.array([1], np.int64))
    total = builder.node("ReduceSum", [parts, axes], "channels.sum", keepdims=1)
    return _shifted(builder, total, _LUMA_BITS, "channels.luma")
