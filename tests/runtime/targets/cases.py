"""Networks, pictures, and what the oracle makes of them: the same ones for every target.

Legend: N pictures, H W C pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from squeezenet.arch.graph import build_graph
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import decode, encode
from squeezenet.codec.numerics import round_biases, round_scales
from squeezenet.codec.types import CompressedLayer, CompressedModel, LevelWeights
from squeezenet.compress.calibrate import calibrated
from squeezenet.images.batches import EvalBatches
from squeezenet.images.decode import Pixels, read_image
from squeezenet.images.preprocess import crop_pixels
from squeezenet.images.sets import ArrayImages
from squeezenet.reference.integer_interpreter import IntegerInterpreter
from tests.runtime.networks import random_network

SEEDS = (2, 3, 5, 8, 11, 13, 17, 21, 34, 36, 47, 55)
"""Of random networks: between them all operations, grey and colour, inputs of one pixel."""
PRESETS = ("squeezenet_tiny", "squeezenet_cifar")
LARGE = "squeezenet1_1"
_NUM_CROPS = 3

Logits = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A model, cropped pictures, one picture of any size, and the logits of all of them.

    Its files lie in ``folder``: NAME.sqz, NAME.pixels, NAME.ppm.
    """

    name: str
    folder: Path
    crops_NK: Logits
    picture_K: Logits
    class_names: tuple[str, ...]

    def file(self, suffix: str) -> Path:
        """Where one of its files lies."""
        return self.folder / f"{self.name}.{suffix}"


@cache
def case(name: str, folder: Path) -> Case:
    """Make a case by its name: ``random`` and a seed, or an architecture."""
    if name.startswith("random"):
        model, seed = random_network(int(name[6:])), int(name[6:])
    else:
        model, seed = random_weights(name), 0
    rng = np.random.default_rng(seed)
    picture_HWC = picture(rng, *(int(side) for side in rng.integers(1, 90, 2)))
    return _write(name, folder, encode(model), picture_HWC, rng)


def given_case(model: Path, photo: Path, folder: Path) -> Case:
    """Make a case of a model's file and a picture's."""
    name = f"{model.stem}-{photo.stem}"
    return _write(name, folder, model.read_bytes(), read_image(photo), np.random.default_rng(0))


def _write(
    name: str, folder: Path, data: bytes, picture_HWC: Pixels, rng: np.random.Generator
) -> Case:
    model = decode(data)
    record = model.record
    prep = record.preprocessing
    crops_NHWC = rng.integers(0, 256, (_NUM_CROPS, *prep.crop, prep.num_channels), np.uint8)
    crops_NHWC[0] //= 16  # dark
    if max(prep.crop) > 32:  # noise, one of it, is enough of what takes long
        crops_NHWC = crops_NHWC[1:2]
    oracle = IntegerInterpreter(model)
    made = Case(
        name=name,
        folder=folder,
        crops_NK=oracle.integer_logits(crops_NHWC),
        picture_K=oracle.integer_logits(crop_pixels(picture_HWC, prep)[None])[0],
        class_names=record.class_names,
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.file("sqz").write_bytes(data)
    made.file("pixels").write_bytes(crops_NHWC.tobytes())
    Image.fromarray(picture_HWC).save(made.file("ppm"))
    return made


def picture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Patches of colour with some noise, (H, W, 3): not all alike to a network, as noise is."""
    patches = rng.integers(0, 256, (5, 5, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 5 // width
    noise = rng.integers(-20, 21, (height, width, 3))
    return (patches[rows][:, columns] + noise).clip(0, 255).astype(np.uint8)


def random_weights(arch: str) -> CompressedModel:
    """A named architecture with sparse random levels and calibrated activations."""
    spec = preset(arch, batch_norm=False)
    prep = default_preprocessing(spec)
    names = tuple(f"class {k}" for k in range(spec.num_classes))
    record = ModelRecord(spec=spec, preprocessing=prep, class_names=names)
    rng = np.random.default_rng(0)
    layers = []
    for conv in build_graph(spec).convs:
        levels = np.rint(rng.laplace(0, 0.7, conv.weight_shape)).clip(-127, 127).astype(np.int8)
        size = levels[0].size * float(np.square(levels, dtype=np.float64).mean())
        scales_O = round_scales(rng.uniform(0.7, 1.4, conv.out_channels) * np.sqrt(2 / size))
        bias_O = round_biases(rng.normal(0, 0.1, conv.out_channels), 1 / 1024)
        weights = LevelWeights(levels_OIHW=levels, scales_O=scales_O)
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
    pictures = ArrayImages(
        pixels_NHWC=np.stack([picture(rng, *prep.crop) for _ in range(4)]),
        labels=np.zeros(4, np.int64),
        class_names=names,
        title="patches",
    )
    model = CompressedModel(record=record, layers=tuple(layers))
    return calibrated(model, EvalBatches(pictures, prep, workers=0))
