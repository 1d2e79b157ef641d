"""Any model argument opens, and predicts as a classifier does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import squeezenet
from squeezenet.arch.record import ModelRecord
from squeezenet.client import Classifier
from squeezenet.codec.container import encode
from squeezenet.errors import ImageError, UsageError
from squeezenet.evaluation.metrics import softmax
from tests.conftest import random_model
from tests.runtime.networks import random_network

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def float_model(tmp_path: Path, tiny_record: ModelRecord) -> squeezenet.OpenModel:
    path = tmp_path / "float.sqz"
    path.write_bytes(encode(random_model(tiny_record)))
    return squeezenet.open_model(path)


def test_the_default() -> None:
    for opened in (squeezenet.open_model(), squeezenet.open_model("default")):
        assert opened.arithmetic == "integer" and opened.file_bytes == 89_981
        assert opened.classes == opened.record.class_names == Classifier().classes
        assert opened.predict(PIXELS, top=3) == Classifier()(PIXELS, top=3)


def test_a_path_as_text_or_path(tmp_path: Path) -> None:
    path = tmp_path / "m.sqz"
    path.write_bytes(encode(random_network(3)))
    predicted = squeezenet.open_model(path).predict([PIXELS, PIXELS[::2]])
    assert predicted == squeezenet.open_model(str(path)).predict([PIXELS, PIXELS[::2]])
    assert predicted == Classifier(path)([PIXELS, PIXELS[::2]])
    with pytest.raises(UsageError, match="no such file or folder"):
        squeezenet.open_model(Path("default"))  # a path is never the word


def test_a_model_in_float(float_model: squeezenet.OpenModel) -> None:
    assert float_model.arithmetic == "float32" and float_model.classifier is None
    one, two = float_model.predict(PIXELS, top=3), float_model.predict([PIXELS[::2]], top=1)
    assert len(one) == 3 and len(two) == 1 and len(two[0]) == 1
    assert one[0].probability >= one[1].probability >= one[2].probability
    everything = float_model.predict(PIXELS, top=100)
    assert {p.label for p in everything} == set(float_model.classes)
    assert sum(p.probability for p in everything) == pytest.approx(1)


def test_float_and_integer_crop_alike(tmp_path: Path) -> None:
    """A model opened either way sees the same pixels: the logits differ by rounding alone."""
    path = tmp_path / "m.sqz"
    path.write_bytes(encode(random_network(3)))
    in_float = squeezenet.open_model(path, in_float=True)
    assert in_float.classifier is None
    classifier = Classifier(path)
    crop = classifier.crop(PIXELS)
    expected = softmax(in_float.network(crop[None]))[0].max()
    assert in_float.predict(PIXELS)[0].probability == float(expected)


def test_wrong_use_of_a_float_model(float_model: squeezenet.OpenModel) -> None:
    with pytest.raises(ImageError, match="image: found the number 7, expected a path"):
        float_model.predict(7)
    with pytest.raises(UsageError, match="the best 0 classes, expected at least 1"):
        float_model.predict(PIXELS, top=0)


def test_a_model_says_what_it_is() -> None:
    said = repr(squeezenet.open_model("default"))
    assert said.startswith("OpenModel('") and len(said) < 300
    assert said.endswith("cifar10.sqz', squeezenet_cifar, 10 classes, 89,981 bytes, integer)")
