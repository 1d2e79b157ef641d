"""A new head by logistic regression, on networks whose heads are of each kind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from squeezenet.arch.presets import alexnet, preset
from squeezenet.arch.spec import AlexNetSpec, HeadSpec, NetworkSpec, SqueezeNetSpec
from squeezenet.evaluation.predict import evaluate
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.images.sets import ArrayImages
from squeezenet.model.init import initialise
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.network import build_module
from squeezenet.train.fit import FitOptions
from squeezenet.train.head import fit_head
from tests.conftest import record_of


def coloured(num_classes: int, num_images: int, side: int) -> ArrayImages:
    """Noise whose brightness is the class; the last class has few images."""
    rng = np.random.default_rng(0)
    labels = np.minimum(np.arange(num_images) % (num_classes + 2), num_classes - 1)
    levels = 40 + 160 * labels / num_classes
    noise = rng.integers(0, 30, (num_images, side, side, 3))
    pixels = (noise + levels[:, None, None, None]).astype(np.uint8)
    names = tuple(f"c{i}" for i in range(num_classes))
    return ArrayImages(pixels_NHWC=pixels, labels=labels, class_names=names, title="noise")


def small_alexnet() -> NetworkSpec:
    base = alexnet()
    convs = tuple(
        dataclasses.replace(conv, out_channels=conv.out_channels // 8) for conv in base.convs
    )
    return dataclasses.replace(base, convs=convs, hidden=(64,), input_size=(67, 67))


def without_hidden_layers() -> NetworkSpec:
    """A last layer whose kernel covers what the convolutions give."""
    spec = preset("alexnet_cifar")
    assert isinstance(spec, AlexNetSpec)
    convs = tuple(
        dataclasses.replace(conv, out_channels=conv.out_channels // 16) for conv in spec.convs
    )
    return dataclasses.replace(spec, convs=convs, hidden=())


def padded() -> NetworkSpec:
    spec = preset("squeezenet1_1", input_size=(35, 35))
    assert isinstance(spec, SqueezeNetSpec)
    return dataclasses.replace(spec, head=HeadSpec(padding=1))


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize(
    "make",
    [padded, small_alexnet, without_hidden_layers, lambda: preset("squeezenet_cifar")],
)
def test_the_head_predicts_as_the_regression(make: object, num_classes: int) -> None:
    spec = dataclasses.replace(make(), num_classes=num_classes)
    module = build_module(spec)
    initialise(module, spec, "he", 0)
    model = LoadedModel(record=record_of(spec), module=module)
    images = coloured(num_classes, 60, spec.input_size[0])
    batches = EvalBatches(images, model.record.preprocessing, workers=None)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    fit_head(model, images, balance=True, options=FitOptions())
    changed = {key for key, value in module.state_dict().items() if not value.equal(before[key])}
    assert len(changed) == 2 and all(key.startswith(("classifier.1", "fc")) for key in changed)
    assert (
        evaluate(from_pixels(model.logits, model.record.preprocessing), model.record, batches).top1
        > 90
    )
    first = {key: module.state_dict()[key].clone() for key in changed}
    fit_head(model, images, balance=True, options=FitOptions())
    assert all(module.state_dict()[key].equal(first[key]) for key in changed)


def test_balance_gives_rare_classes_the_weight_of_the_others() -> None:
    spec = dataclasses.replace(preset("squeezenet_cifar"), num_classes=5)
    rare = {}
    for balance in (False, True):
        module = build_module(spec)
        initialise(module, spec, "he", 0)
        model = LoadedModel(record=record_of(spec), module=module)
        images = coloured(5, 60, 32)
        fit_head(model, images, balance=balance, options=FitOptions())
        logits_NK = from_pixels(model.logits, model.record.preprocessing)(images.pixels_NHWC)
        # The last class has three times the images of another.
        rare[balance] = float((logits_NK[:, 0] - logits_NK[:, 4]).mean())
    assert rare[True] > rare[False]
