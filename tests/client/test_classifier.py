"""The compiled runtime equals the NumPy oracle bit for bit, whatever the network and the kernels,
and refuses wrong use."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezenet.arch.preprocessing import ChannelOrder, Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import ConvSpec, PoolSpec
from squeezenet.client import Classifier, available_kernels
from squeezenet.codec.container import Section, decode, encode
from squeezenet.codec.range_text import encode_text
from squeezenet.errors import (
    ChecksumError,
    FloatOnlyError,
    ImageError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownFormatError,
    UsageError,
)
from squeezenet.images.decode import read_image
from squeezenet.images.preprocess import crop_pixels
from squeezenet.reference.integer_interpreter import IntegerInterpreter
from tests.client.networks import network_of, random_network
from tests.codec.test_container import Parts
from tests.conftest import REPOSITORY, random_model


def _pixels(classifier: Classifier, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *classifier.crop_shape), dtype=np.uint8)
    pixels[0] //= 16  # dark
    return pixels


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_oracle(seed: int) -> None:
    model = random_network(seed)
    data = encode(model)
    expected = None
    for kernels in available_kernels():
        for threads, streamed in ((1, False), (1, True), (3, False), (2, True)):
            classifier = Classifier(data, kernels=kernels, threads=threads, streamed=streamed)
            pixels = _pixels(classifier, 3, seed)
            if expected is None:
                expected = IntegerInterpreter(decode(data)).integer_logits(pixels)
            found = classifier.integer_logits(pixels)
            np.testing.assert_array_equal(found, expected, f"{kernels} {threads} {streamed}")


def test_the_largest_pool() -> None:
    """31, the most that the format's spec allows, is more rows than any usual window has."""
    old = random_network(0).record
    pool = PoolSpec(after="conv1", kernel=31, stride=2)
    spec = dataclasses.replace(
        old.spec, pools=(pool,), stem=ConvSpec(out_channels=7, kernel=1), input_size=(40, 37)
    )
    prep = dataclasses.replace(old.preprocessing, resize=40, crop=(40, 37))
    record = dataclasses.replace(old, spec=spec, preprocessing=prep)
    data = encode(network_of(record, np.random.default_rng(0)))
    pixels = _pixels(Classifier(data), 2)
    expected = IntegerInterpreter(decode(data)).integer_logits(pixels)
    for kernels in available_kernels():
        found = Classifier(data, kernels=kernels, threads=2).integer_logits(pixels)
        np.testing.assert_array_equal(found, expected)


def test_a_picture_that_would_become_endless_is_refused() -> None:
    old = random_network(0)
    prep = dataclasses.replace(old.record.preprocessing, resize=256)
    record = dataclasses.replace(old.record, preprocessing=prep)
    classifier = Classifier(encode(dataclasses.replace(old, record=record)))
    for shape in ((1 << 24, 1, 3), (1, (1 << 24) - 1, 3)):
        with pytest.raises(LimitError):
            classifier.crop(np.zeros(shape, np.uint8))


def test_the_networks_are_of_all_kinds() -> None:
    models = [random_network(seed) for seed in range(60)]
    specs = [model.record.spec for model in models]
    assert any(fire.bypass == "identity" for spec in specs for fire in spec.fires)
    assert any(fire.bypass == "conv" for spec in specs for fire in spec.fires)
    assert any(min(spec.input_size) == 1 for spec in specs)
    assert any(scale.zero_point for model in models for scale in model.activations.values())
    logits = [
        IntegerInterpreter(m).integer_logits(_pixels(Classifier(encode(m)), 2)) for m in models[:9]
    ]
    assert sum(len(np.unique(each)) > 2 for each in logits) > 5


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (16, 16), (17, 40), (300, 31), (64, 48), (9, 700), (1200, 900)]
)
def test_crops_as_the_resize_says(channels: ChannelOrder, shape: tuple[int, int]) -> None:
    network = next(
        model
        for model in map(random_network, range(99))
        if model.record.preprocessing.num_channels == (1 if channels == "L" else 3)
    )
    side = network.record.preprocessing.crop
    prep = Preprocessing(
        resize=max(side) + 3,
        crop=side,
        channels=channels,
        mean=network.record.preprocessing.mean,
        std=network.record.preprocessing.std,
    )
    record = ModelRecord(
        spec=network.record.spec, preprocessing=prep, class_names=network.record.class_names
    )
    model = type(network)(record=record, layers=network.layers, activations=network.activations)
    classifier = Classifier(encode(model))
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(classifier.crop(pixels), crop_pixels(pixels, prep))


def test_answers_for_files_pictures_and_arrays(tmp_path: Path) -> None:
    model = random_network(3)
    path = tmp_path / "m.sqz"
    path.write_bytes(encode(model))
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    classifier = Classifier(path)
    answers = classifier(tmp_path / "p.png", top=2)
    assert answers == classifier(str(tmp_path / "p.png"), top=2)
    assert answers == classifier(pixels, top=2) == classifier(Image.fromarray(pixels), top=2)
    assert len(answers) == 2 and answers[0].probability >= answers[1].probability
    everything = classifier(read_image(tmp_path / "p.png"), top=1000)
    assert sum(answer.probability for answer in everything) == pytest.approx(1)
    assert classifier.integer_logits(np.zeros((0, *classifier.crop_shape), np.uint8)).shape[0] == 0


def test_many_python_threads_share_one_classifier() -> None:
    classifier = Classifier(encode(random_network(5)), threads=2)
    pixels = _pixels(classifier, 40)
    expected = classifier.integer_logits(pixels)
    wrong = []

    def work() -> None:
        for _ in range(5):
            if not (classifier.integer_logits(pixels) == expected).all():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_activations_that_both_refuse() -> None:
    data = encode(random_network(0))
    body = {number: body for number, _, _, body in Parts.of(data).sections}[6]
    bad = [b"", body[:-1], body + b"x", b"\x00\x00" + body[2:], b"\x80\x7f" + body[2:]]
    for each in bad:
        changed = Parts.of(data).put(Section.ACTIVATIONS, each)
        with pytest.raises(MalformedError):
            decode(changed)
        with pytest.raises(MalformedError):
            Classifier(changed)
    # A step far below its source's: accumulators would not fit into bytes.
    changed = Parts.of(data).put(Section.ACTIVATIONS, b"\x80\x00" + body[2:])
    with pytest.raises(LimitError):
        IntegerInterpreter(decode(changed))
    with pytest.raises(LimitError):
        Classifier(changed)


@pytest.mark.parametrize(
    "text", ["", "a", "{0}\x1b[31m", "{0}\u202e", "{0}\n", "x" * 257 + "{0}", "same"]
)
def test_names_that_the_reader_refuses_too(text: str) -> None:
    """The classifier reads names without the record, and refuses what the reader refuses."""
    data = encode(random_network(0))
    count = len(Classifier(data).classes)
    names = "\n".join(text.format(k) for k in range(count))
    changed = Parts.of(data).put(Section.LABELS, b"\0" + encode_text(names))
    with pytest.raises(MalformedError) as caught:
        decode(changed)
    with pytest.raises(MalformedError, match=re.escape(str(caught.value).split(": ")[-1])):
        Classifier(changed)


def test_wrong_use(tmp_path: Path, tiny_record: ModelRecord) -> None:
    data = encode(random_network(0))
    with pytest.raises(FloatOnlyError, match="float32 alone"):
        Classifier(encode(random_model(tiny_record)))
    with pytest.raises(FloatOnlyError, match="Huffman codes"):
        Classifier(encode(random_network(0), "huffman"))
    with pytest.raises(UsageError, match="no such file"):
        Classifier(tmp_path / "absent.sqz")
    with (tmp_path / "sparse.sqz").open("wb") as file:
        file.write(data)
        file.truncate(1 << 40)
    with pytest.raises(LimitError, match="expected at most 268435456"):
        Classifier(tmp_path / "sparse.sqz")
    with pytest.raises(UsageError, match="kernels"):
        Classifier(data, kernels="abacus")
    with pytest.raises(UsageError, match="threads"):
        Classifier(data, threads=0)
    with pytest.raises(TruncatedError):
        Classifier(data[:-1])
    with pytest.raises(ChecksumError):
        Classifier(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(UnknownFormatError):
        Classifier(b"not a model")
    classifier = Classifier(data)
    for pixels in (np.zeros((2, 1, 1, 7), np.uint8), np.zeros((1, *classifier.crop_shape))):
        with pytest.raises(ImageError, match="expected uint8"):
            classifier.integer_logits(pixels)
    for picture in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="a picture is"):
            classifier(picture)


def test_no_classes_at_all() -> None:
    classifier = Classifier(encode(random_network(0)))
    with pytest.raises(UsageError, match="at least 1"):
        classifier(np.zeros((5, 5, 3), np.uint8), top=0)


def test_in_a_forked_child() -> None:
    """A child has none of its parent's threads, and must not wait for them."""
    script = """
import os, sys
import numpy as np
from squeezenet.client import Classifier
classifier = Classifier(sys.argv[1], threads=2)
pixels = np.zeros((1, *classifier.crop_shape), np.uint8)
expected = classifier.integer_logits(pixels)
child = os.fork()
if child == 0:
    os._exit(not np.array_equal(classifier.integer_logits(pixels), expected))
sys.exit(os.waitpid(child, 0)[1] != 0)
"""
    model = REPOSITORY / "spec" / "vectors" / "accept" / "integer.sqz"
    subprocess.run([sys.executable, "-c", script, model], check=True, timeout=60)
