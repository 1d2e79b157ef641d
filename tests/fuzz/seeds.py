"""Good files to begin from, made by our own code, all small."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from onnx import GraphProto, ModelProto
from PIL import Image
from safetensors.torch import save

from squeezenet.arch.graph import build_graph
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import caffe_squeezenet1_0, preset
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.checkpoint import (
    Checkpoint,
    save_checkpoint,
    save_curvatures,
)
from squeezenet.compress.rate_distortion.curvature import Curvature
from squeezenet.compress.rate_distortion.quantized_network import QuantizedLayer, QuantizedNetwork
from squeezenet.export.onnx.project import exact_model, float_model, int8_model
from squeezenet.model.network import build_module
from squeezenet.model.safetensors_file import save_safetensors, with_half_weights
from squeezenet.sealed_files import read_sealed
from tests.model import fuzz_torch_file
from tests.runtime.networks import random_network
from tests.train.small import quick, quick_run

TINY = "squeezenet_tiny"
RUN_FILES = (
    "run.json", "result.json", "metrics.jsonl", "checkpoints/step-000000004.pt",
    "checkpoints/step-000000008.pt", "best.safetensors", "last.safetensors", "data.fingerprint",
)  # fmt: skip
WORK_FILES = ("network.npz", "curvature.npz", "density.json", "densities.json")


def pictures() -> list[bytes]:
    """All formats and many of their modes: 24x16 pixels."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8).repeat(1, axis=0))
    smooth = rgb.resize((6, 4)).resize((24, 16), Image.Resampling.BICUBIC)
    deep = Image.fromarray(rng.integers(0, 1 << 16, (16, 24)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba, grey, palette = smooth.convert("RGBA"), smooth.convert("L"), smooth.quantize(16)
    rgba.putalpha(grey)
    floats = Image.fromarray(rng.random((16, 24)).astype(np.float32))
    saved: list[tuple[Image.Image, str, dict[str, object]]] = [
        (smooth, "JPEG", {"exif": exif}),
        (smooth, "JPEG", {"progressive": True, "subsampling": 2}),
        (grey, "JPEG", {"icc_profile": b"x" * 100}),
        (smooth.convert("CMYK"), "JPEG", {}),
        (rgb, "PNG", {"exif": exif}),
        (rgba, "PNG", {}),
        (grey.convert("LA"), "PNG", {}),
        (palette, "PNG", {"transparency": 3}),
        (palette, "PNG", {"save_all": True, "append_images": [palette], "duration": 9}),
        (deep, "PNG", {}),
        (grey.convert("1"), "PNG", {}),
        (palette, "GIF", {"transparency": 3}),
        (palette, "GIF", {"save_all": True, "append_images": [palette.rotate(90)]}),
        *((each, "BMP", {}) for each in (rgb, palette, grey, grey.convert("1"), rgba)),
        *(
            (smooth, "TIFF", {"compression": name})
            for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
        ),
        (grey.convert("1"), "TIFF", {"compression": "group4"}),
        *((each, "TIFF", {}) for each in (deep, floats, rgba, palette, smooth.convert("CMYK"))),
        (smooth.convert("YCbCr"), "TIFF", {}),
        (smooth.convert("LAB"), "TIFF", {}),
        (rgb, "TIFF", {"exif": exif}),
        (smooth, "WEBP", {"exif": exif}),
        (rgba, "WEBP", {"lossless": True}),
        (rgba, "WEBP", {"save_all": True, "append_images": [rgba.rotate(90)]}),
        (smooth, "AVIF", {"exif": exif}),
        (rgba, "AVIF", {}),
        (smooth, "JPEG2000", {}),
        (grey, "JPEG2000", {"no_jp2": True}),
        (rgba, "JPEG2000", {"tile_size": (16, 16)}),
        (deep, "JPEG2000", {}),
        *((each, "PPM", {}) for each in (rgb, grey, grey.convert("1"), deep, floats)),
        *((each, "TGA", {"compression": "tga_rle"}) for each in (rgb, palette, rgba, grey)),
        (rgb, "TGA", {}),
        (rgb, "QOI", {}),
        (rgba, "QOI", {}),
    ]
    files = [b"P3 2 1 255 1 2 3 4 5 6\n", b"P2 2 1 9 1 2\n", b"P1 2 1 1 0\n", b"P5 2 1 999 abcd"]
    for image, form, options in saved:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        files.append(buffer.getvalue())
    return files


def torch_files() -> list[bytes]:
    """Files of torch.save in both formats."""
    return fuzz_torch_file.seeds()


def safetensors_files() -> list[bytes]:
    """Ours, in full and half precision; plain ones with and without metadata."""
    spec = preset(TINY)
    record = ModelRecord(
        spec=spec,
        preprocessing=default_preprocessing(spec),
        class_names=tuple(f"c{i}" for i in range(spec.num_classes)),
        provenance={"method": "training"},
    )
    torch.manual_seed(0)
    state = build_module(spec).state_dict()
    files = []
    with TemporaryDirectory() as folder:
        for each in (state, with_half_weights(state)):
            path = Path(folder, "x.safetensors")
            save_safetensors(path, record, each)
            files.append(path.read_bytes())
    other = {"features.0.weight": torch.ones(64, 3, 3, 3), "n": torch.zeros(0, dtype=torch.int64)}
    prefixed = {f"module.{key}": tensor for key, tensor in state.items()}
    return [*files, save(state), save(prefixed, {"format": "pt"}), save(other)]


def onnx_files() -> list[bytes]:
    """Ours: float32 with preprocessing and without, int8, exact; and one of another program."""
    model = random_network(1)
    made = [
        float_model(model),
        float_model(random_network(2), preprocessing=True),
        int8_model(model),
        exact_model(model),
        ModelProto(ir_version=7, graph=GraphProto(name="other")),
    ]
    return [each.SerializeToString(deterministic=True) for each in made]


def net_files() -> list[bytes]:
    """Han's format with one or a few weights per layer, 44 KB instead of 660 KB."""
    return [net_file([_net_layer(i, n) for i in range(26)]) for n in (1, 4)]


NetLayer = tuple[bytes, bytes, bytes, bytes]
"""Codebook, biases, codes and gaps."""


def _net_layer(i: int, num_entries: int) -> NetLayer:
    rng = np.random.default_rng(i)
    codebook = rng.normal(size=256).astype("<f4")
    codebook[0] = 0
    bias_O = rng.normal(size=build_graph(caffe_squeezenet1_0()).convs[i].out_channels)
    codes = rng.integers(0, 256, num_entries).astype(np.uint8)
    gaps = rng.integers(0, 256, (num_entries + 1) // 2).astype(np.uint8)
    return codebook.tobytes(), bias_O.astype("<f4").tobytes(), codes.tobytes(), gaps.tobytes()


def net_file(layers: list[NetLayer]) -> bytes:
    """Put layers together, with right counts."""
    counts = struct.pack(f"<{len(layers)}I", *(len(codes) for _, _, codes, _ in layers))
    return counts + b"".join(part for layer in layers for part in layer)


@cache
def run_folder() -> dict[str, bytes]:
    """The files of a finished run of two epochs, all its checkpoints kept."""
    with TemporaryDirectory() as folder:
        run = Path(folder, "run")
        quick_run(run, quick(epochs=2), keep_checkpoints=True)
        return {name: (run / name).read_bytes() for name in RUN_FILES}


@cache
def work_folder() -> dict[str, bytes]:
    """Work files of the compression of ``squeezenet_tiny``, without their seals."""
    rng = np.random.default_rng(0)
    levels, curvatures = {}, {}
    graph = build_graph(preset(TINY))
    for conv in graph.convs:
        channels, inputs = conv.weight_shape[0], int(np.prod(conv.weight_shape[1:]))
        levels[conv.name] = QuantizedLayer(
            weight_shape=conv.weight_shape,
            trellis=False,
            codes_OP=rng.integers(-3, 4, (channels, inputs)),
            scales_O=np.full(channels, 0.0625, np.float32),
            bias_O=rng.normal(size=channels),
            bias_curvature=0.5,
        )
        curvatures[conv.name] = Curvature(
            fisher_GPP=np.eye(inputs)[None],
            output_GQQ=np.eye(channels)[None] / channels,
            mean_GP=np.zeros((1, inputs)),
            moment_GPP=np.eye(inputs)[None],
        )
    network = QuantizedNetwork(levels=levels, lambda_=1e-4)
    scale = ActivationScale(scale=0.0625, zero_point=3)
    checkpoint = Checkpoint(passes=1, network=network, activations=dict(_scales(scale)))
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        save_checkpoint(path, checkpoint)
        saved = read_sealed(path) or b""
        save_curvatures(path, curvatures)
        return {
            "network.npz": saved,
            "curvature.npz": read_sealed(path) or b"",
            "density.json": b'{"density": 0.25}',
            "densities.json": b'{"conv1": 0.5, "fire2/squeeze1x1": 0.25}',
        }


def _scales(scale: ActivationScale) -> Iterator[tuple[str, ActivationScale]]:
    from squeezenet.arch.quantized_tensors import scaled_tensors

    for name in scaled_tensors(build_graph(preset(TINY))):
        yield name, scale
