"""Targets that no compression can reach, refused before the work begins.

Nothing is promised of the targets that pass: many a size above the lower bound is out of reach
too, and only the search finds that out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from squeezenet.arch.graph import Conv, build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import to_plain
from squeezenet.codec.container import encode
from squeezenet.codec.types import (
    ActivationScale,
    CodebookWeights,
    CompressedLayer,
    CompressedModel,
    LevelWeights,
)
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.errors import UsageError


def require_reachable(
    record: ModelRecord,
    images: CompressionImages,
    settings: DeepCompressionSettings | RateDistortionSettings,
    max_drop: float | None = None,
) -> None:
    """Refuse a size below ``min_file_bytes``, and a drop below what one measured image is worth.

    A drop of 0 is allowed: nothing may be lost.

    Raises:
        UsageError: names the option, and the least value that could be reached.
    """
    if settings.target_bytes is not None:
        least = min_file_bytes(record, settings)
        if settings.target_bytes < least:
            raise UsageError(
                f"--target-bytes {settings.target_bytes}: the class names, record and scales alone "
                f"take {least:,} bytes; expected more"
            )
    if max_drop is not None and max_drop != 0:
        num_images = len(images.measure)
        one_image = 100 / num_images
        # Two decimals are printed, and what is printed is accepted.
        if max_drop < round(one_image, 2):
            raise UsageError(
                f"--max-drop {max_drop:g}: one of the {num_images:,} images measured is worth "
                f"{one_image:.2f} points; expected 0 or at least {one_image:.2f}"
            )


def min_file_bytes(
    record: ModelRecord, settings: DeepCompressionSettings | RateDistortionSettings
) -> int:
    """Return a lower bound of the file's size: all weights and biases zero, all scales equal.

    ``record`` is the uncompressed model's. The bound comes from the encoder that writes the file.
    The file's own record is longer by what compression adds to the provenance.
    """
    spec = dataclasses.replace(record.spec, batch_norm=False)
    any_target = dataclasses.replace(settings, target_bytes=None)  # equal for all targets
    provenance = {"settings": to_plain(any_target), "source": record.provenance}
    graph = build_graph(spec)
    is_integer = isinstance(settings, RateDistortionSettings)
    activations = {
        name: ActivationScale(scale=1.0, zero_point=0)
        for name in (scaled_tensors(graph) if is_integer else ())
    }
    model = CompressedModel(
        record=dataclasses.replace(record, spec=spec, provenance=provenance),
        layers=tuple(_zero_layer(conv, is_integer=is_integer) for conv in graph.convs),
        activations=activations or None,
    )
    return len(encode(model))


def _zero_layer(conv: Conv, *, is_integer: bool) -> CompressedLayer:
    zeros_OIHW = np.zeros(conv.weight_shape, np.int8)
    weights: LevelWeights | CodebookWeights
    if is_integer:
        scales_O = np.ones(conv.out_channels, np.float32)
        weights = LevelWeights(levels_OIHW=zeros_OIHW, scales_O=scales_O, trellis=True)
    else:
        codes_OIHW = zeros_OIHW.view(np.uint8)
        weights = CodebookWeights(codes_OIHW=codes_OIHW, codebook=np.zeros(1, np.float32))
    bias_O = np.zeros(conv.out_channels, np.float32)
    return CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O)
