"""The network at step 0: chosen by the data, from scratch, or a pretrained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezenet.arch.preprocessing import Preprocessing, caffe_preprocessing
from squeezenet.arch.presets import caffe_squeezenet1_0, preset
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.data.sources import TrainingData, open_training_data
from squeezenet.errors import ImageError, WeightsError
from squeezenet.images.folders import read_class_folders
from squeezenet.images.sets import AnyOrder
from squeezenet.model.safetensors_file import save_safetensors
from squeezenet.train.recipe import recipe_named
from squeezenet.train.start import (
    FEW_PER_CLASS,
    FEW_PHOTOGRAPHS,
    NetworkChoice,
    default_start,
    largest_short_side,
    new_model,
    open_pretrained,
    start_from,
    start_from_layers,
    suggest_input_size,
)


class Blank(AnyOrder):
    """A set of so many images of one size, none of them in memory."""

    def __init__(self, num_images: int, num_classes: int, size: tuple[int, int]) -> None:
        self.labels = np.arange(num_images) % num_classes
        self.class_names = tuple(f"c{i}" for i in range(num_classes))
        self._size = size

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: int, min_side: int | None = None) -> np.ndarray:
        if self._size == (0, 0):
            raise ImageError("broken")
        return np.zeros((*self._size, 3), np.uint8)


def blank(
    num_images: int, num_classes: int = 2, size: tuple[int, int] = (300, 400)
) -> TrainingData:
    train, val = (Blank(n, num_classes, size) for n in (num_images - 5, 5))
    return TrainingData(train=train, val=val)  # type: ignore[arg-type]


def test_digits_have_their_own_network() -> None:
    chosen = default_start("digits", open_training_data("digits"))
    assert (chosen.arch, chosen.published, chosen.input_size) == ("squeezenet_tiny", None, None)


@pytest.mark.parametrize(
    ("size", "input_size"),
    [((32, 32), None), ((8, 500), None), ((33, 40), 33), ((64, 64), 64), ((100, 48), 48)],
)
def test_small_images_are_trained_from_scratch(
    size: tuple[int, int], input_size: int | None
) -> None:
    chosen = default_start("x", blank(50, size=size))
    assert (chosen.arch, chosen.published) == ("squeezenet_cifar", None)
    assert chosen.input_size == input_size
    assert f"images of {min(size)} pixels are small" in chosen.reason
    assert "on so few, --from squeezenet1_1 is more accurate" in chosen.reason
    many = default_start("x", blank(2 * FEW_PER_CLASS, size=size))
    assert many == dataclasses.replace(chosen, reason=chosen.reason.partition(";")[0])
    # The network exists.
    preset("squeezenet_cifar", input_size=(input_size or 32, input_size or 32))


@pytest.mark.parametrize(
    ("num_images", "num_classes", "few"),
    [
        (347, 8, True),
        (FEW_PHOTOGRAPHS - 1, 2, True),
        (FEW_PHOTOGRAPHS, 2, False),
        (FEW_PHOTOGRAPHS, FEW_PHOTOGRAPHS // FEW_PER_CLASS, False),
        (FEW_PHOTOGRAPHS, FEW_PHOTOGRAPHS // FEW_PER_CLASS + 1, True),
    ],
)
def test_few_photographs_are_fine_tuned(num_images: int, num_classes: int, few: bool) -> None:
    chosen = default_start("x", blank(num_images, num_classes, (65, 70)))
    expected = (None, "squeezenet1_1") if few else ("squeezenet1_1", None)
    assert (chosen.arch, chosen.published, chosen.input_size) == (*expected, None)
    assert f"{num_images:,} photographs" in chosen.reason
    assert ("fine-tuning" if few else "from scratch") in chosen.reason
    assert ("classes are few" in chosen.reason) == (few and num_images >= FEW_PHOTOGRAPHS)


def test_images_that_cannot_be_read_count_as_photographs() -> None:
    assert largest_short_side(blank(50, size=(0, 0)).train) is None
    assert default_start("x", blank(50, size=(0, 0))).published == "squeezenet1_1"


def test_short_sides(image_folder: Callable[..., Path]) -> None:
    folder = image_folder(a=20, size=(16, 12))
    image_folder(folder, b=20, size=(9, 11))
    images = read_class_folders(folder)
    assert largest_short_side(images) == 12
    images.paths[0].write_bytes(b"broken")
    assert largest_short_side(images) == 12
    assert suggest_input_size("squeezenet1_1", images) == 12
    assert suggest_input_size("squeezenet_cifar", images) is None
    assert suggest_input_size("squeezenet_tiny", images) is None
    assert suggest_input_size("squeezenet1_1", blank(9, size=(32, 40)).train) == 32
    assert suggest_input_size("squeezenet1_1", blank(9, size=(33, 40)).train) is None
    assert suggest_input_size("squeezenet1_1", blank(9, size=(0, 0)).train) is None


def test_the_sample_spans_the_set() -> None:
    # Only the last tenth of the images is large: every sixteenth is looked at.
    class Growing(Blank):
        def pixels(self, index: int, min_side: int | None = None) -> np.ndarray:
            return np.zeros((100, 100 if index >= 144 else 10, 3), np.uint8)

    assert largest_short_side(Growing(160, 2, (1, 1))) == 100  # type: ignore[arg-type]


def test_a_new_network() -> None:
    recipe = recipe_named("default")
    names = ("a", "b", "c")
    model = new_model(NetworkChoice(arch="squeezenet1_1", input_size=64), recipe, names, 3)
    spec = model.record.spec
    assert (spec.num_classes, spec.input_size, spec.input_channels) == (3, (64, 64), 3)
    assert isinstance(spec, SqueezeNetSpec) and spec.batch_norm
    assert model.record.class_names == names
    assert model.record.provenance == {"method": "trained", "seed": 3}
    assert isinstance(model.record.preprocessing, Preprocessing)
    choice = NetworkChoice(arch="squeezenet1_1", input_channels=1, batch_norm=False)
    assert choice.size == (224, 224)
    grey = new_model(choice, recipe, names, 3).record.spec
    assert isinstance(grey, SqueezeNetSpec)
    assert (grey.input_size, grey.input_channels, grey.batch_norm) == ((224, 224), 1, False)
    # Equal seeds give equal weights.
    tiny = NetworkChoice(arch="squeezenet_tiny")
    a, b, c = (
        new_model(tiny, recipe, names, seed).module.state_dict()["features.0.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_the_papers_networks() -> None:
    paper = recipe_named("paper")
    names = tuple(f"c{i}" for i in range(10))
    model = new_model(NetworkChoice(arch="squeezenet1_0"), paper, names, 0)
    expected = dataclasses.replace(caffe_squeezenet1_0(), num_classes=10)
    assert model.record.spec == expected
    assert model.record.preprocessing == caffe_preprocessing()
    newer = new_model(NetworkChoice(arch="squeezenet1_1"), paper, names, 0).record.spec
    assert isinstance(newer, SqueezeNetSpec)
    assert (newer.head.padding, newer.head.last_relu, newer.input_size) == (0, True, (227, 227))
    small = new_model(NetworkChoice(arch="squeezenet1_0", input_size=64), paper, names, 0)
    assert small.record.spec.input_size == (64, 64)
    assert small.record.preprocessing != caffe_preprocessing()
    grey = new_model(NetworkChoice(arch="squeezenet1_0", input_channels=1), paper, names, 0)
    assert grey.record.spec.input_size == (227, 227)
    assert grey.record.preprocessing.num_channels == 1


def test_a_pretrained_network(tmp_path: Path) -> None:
    before = new_model(
        NetworkChoice(arch="squeezenet_tiny"), recipe_named("digits"), ("c0", "c1"), 0
    )
    path = tmp_path / "x.safetensors"
    save_safetensors(path, before.record, before.module.state_dict())
    with pytest.raises(WeightsError, match="is squeezenet_tiny, --arch says squeezenet1_1"):
        open_pretrained(path, "squeezenet1_1")
    pretrained = open_pretrained(path, "squeezenet_tiny")
    same = start_from(pretrained, ("c0", "c1"), new_head=False, seed=5)
    assert same.record.provenance == {
        "method": "fine-tuned",
        "source": before.record.provenance,
        "seed": 5,
    }
    for key, value in before.module.state_dict().items():
        assert torch.equal(same.module.state_dict()[key], value)
    other = start_from(pretrained, ("c0", "c1"), new_head=True, seed=5)
    assert other.record.spec.num_classes == 2
    key = "classifier.1.weight"
    assert not torch.equal(other.module.state_dict()[key], before.module.state_dict()[key])
    with pytest.raises(AssertionError):
        start_from(pretrained, ("x", "y"), new_head=False, seed=5)


def test_a_network_takes_the_layers_in_common() -> None:
    """A trunk has the pretrained weights; the rest is drawn, and the input may be smaller."""
    recipe = recipe_named("finetune")
    whole = new_model(NetworkChoice(arch="squeezenet1_1"), recipe, tuple("abc"), 0)
    spec = preset("squeezenet1_1", input_size=(96, 96))
    assert isinstance(spec, SqueezeNetSpec)
    wider = dataclasses.replace(spec.fires[3], e3x3=64)
    cut = dataclasses.replace(
        spec,
        name="cut",
        fires=(*spec.fires[:3], wider),
        pools=spec.pools[:2],
        batch_norm=whole.record.spec.batch_norm,
    )
    model, count = start_from_layers(whole, cut, tuple("vw"), seed=1)
    assert count == 1 + 3 * 3 + 2  # of the fourth module, all but its 3x3 filters
    assert (model.record.class_names, model.record.spec.input_size) == (("v", "w"), (96, 96))
    assert (model.record.preprocessing.resize, model.record.preprocessing.crop) == (110, (96, 96))
    ours, theirs = model.module.state_dict(), whole.module.state_dict()
    for key, tensor in ours.items():
        same = key in theirs and theirs[key].shape == tensor.shape
        if key.endswith("weight") and tensor.ndim == 4:
            taken = not key.startswith(("classifier", "features.7.expand3x3"))
            assert (same and bool(torch.equal(tensor, theirs[key]))) is taken, key
    for other in (
        dataclasses.replace(cut, stem=dataclasses.replace(cut.stem, out_channels=32)),
        dataclasses.replace(cut, batch_norm=not cut.batch_norm),
        dataclasses.replace(cut, input_channels=1),
    ):
        with pytest.raises(WeightsError, match="first layer is not that of squeezenet1_1"):
            start_from_layers(whole, other, tuple("vw"), seed=1)
    # The last layer is always new, whatever its classes.
    _, count = start_from_layers(whole, whole.record.spec, tuple("xyz"), seed=1)
    assert count == 25
