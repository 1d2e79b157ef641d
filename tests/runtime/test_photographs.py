"""All 500 photographs of imagenet-val500, bit by bit: from the picture to 1,000 logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeezenet.client import Classifier, available_kernels
from squeezenet.codec.container import decode, encode
from squeezenet.codec.han import read_net
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.types import CompressedLayer, CompressedModel, LevelWeights
from squeezenet.compress.calibrate import calibrated
from squeezenet.images.batches import EvalBatches
from squeezenet.images.decode import read_image
from squeezenet.images.folders import read_unlabelled
from squeezenet.images.preprocess import crop_pixels
from squeezenet.reference.integer_interpreter import IntegerInterpreter

pytestmark = pytest.mark.slow


def rounded(layer: CompressedLayer) -> CompressedLayer:
    """A layer's weights as levels, 100 of them from zero to the channel's largest."""
    w_OIHW = layer.weights.dequantize()
    largest_O = np.abs(w_OIHW).max(axis=(1, 2, 3)).clip(1e-6)
    scales_O = round_scales(largest_O / 100)
    levels = np.rint(w_OIHW / scales_O.reshape(-1, 1, 1, 1)).astype(np.int8)
    weights = LevelWeights(levels_OIHW=levels, scales_O=scales_O)
    return CompressedLayer(
        name=layer.name, weights=weights, bias_O=round_biases(layer.bias_O, 2**-12)
    )


def test_all_photographs(shared: Path) -> None:
    """The authors' network equals the oracle, and by all kernels, streamed too, on every tenth."""
    net = read_net(shared / "compressed_SqueezeNet.net")
    model = CompressedModel(record=net.record, layers=tuple(map(rounded, net.layers)))
    known = read_unlabelled(shared / "imagenet-train1k")
    prep = net.record.preprocessing
    some = known.subset(list(range(0, len(known), 5)))
    data = encode(calibrated(model, EvalBatches(some, prep, workers=0)))
    oracle = IntegerInterpreter(decode(data))
    clients = {
        f"{kernels}, {threads} threads, {'streamed' if streamed else 'unpacked'}": Classifier(
            data, kernels=kernels, threads=threads, streamed=streamed
        )
        for kernels in available_kernels()
        for threads, streamed in ((1, False), (2, True))
    }
    fastest = next(iter(clients))
    paths = read_unlabelled(shared / "imagenet-val500").paths
    assert len(paths) == 500
    for i, path in enumerate(paths):
        picture_HWC = read_image(Path(path))
        pixels_HWC = crop_pixels(picture_HWC, prep)
        expected_NK = oracle.integer_logits(pixels_HWC[None])
        for mode in clients if i % 10 == 0 else (fastest,):
            client = clients[mode]
            np.testing.assert_array_equal(client.crop(picture_HWC), pixels_HWC, f"{path} {mode}")
            found_NK = client.integer_logits(pixels_HWC[None])
            np.testing.assert_array_equal(found_NK, expected_NK, f"{path} {mode}")
