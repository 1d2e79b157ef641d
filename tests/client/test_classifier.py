"""The compiled runtime equals the NumPy oracle bit for bit, whatever the network and the kernels,
and refuses wrong use."""

from __future__ import annotations

import copy
import dataclasses
import io
import multiprocessing
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import squeezenet
from squeezenet.arch.preprocessing import ChannelOrder, Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import ConvSpec, FireSpec, PoolSpec
from squeezenet.client import Classifier, Engine, available_kernels
from squeezenet.codec.container import Section, decode, encode
from squeezenet.codec.model_kinds import DEFAULT_MODEL
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
from tests.codec.test_container import Parts
from tests.conftest import REPOSITORY, random_model
from tests.runtime.networks import network_of, random_network


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


@pytest.mark.parametrize("size", [(11, 15), (14, 33), (11, 72), (30, 9)])
def test_wide_tensors(size: tuple[int, int]) -> None:
    """Rows of one tile of positions and of several; numbers of groups of inputs that do and do not
    divide into tiles; windows of more than 3x3 that the edge cuts to three columns."""
    old = random_network(0).record
    spec = dataclasses.replace(
        old.spec,
        stem=ConvSpec(out_channels=68, kernel=3, padding=1),
        fires=(FireSpec(s1x1=36, e1x1=40, e3x3=65), FireSpec(s1x1=68, e1x1=32, e3x3=36)),
        pools=(
            PoolSpec(after="conv1", kernel=5, stride=3, ceil_mode=True),
            PoolSpec(after="fire2", kernel=3, stride=1, ceil_mode=True),
        ),
        num_classes=33,
        input_channels=3,
        input_size=size,
    )
    prep = dataclasses.replace(
        old.preprocessing,
        resize=max(size),
        crop=size,
        channels="RGB",
        mean=(120.0, 0.0, 99.5),
        std=(50.0, 64.0, 90.0),
    )
    names = tuple(f"class {k}" for k in range(33))
    record = dataclasses.replace(old, spec=spec, preprocessing=prep, class_names=names)
    data = encode(network_of(record, np.random.default_rng(1)))
    pixels = _pixels(Classifier(data), 2)
    expected = IntegerInterpreter(decode(data)).integer_logits(pixels)
    for kernels in available_kernels():
        for threads, streamed in ((1, False), (3, True)):
            classifier = Classifier(data, kernels=kernels, threads=threads, streamed=streamed)
            found = classifier.integer_logits(pixels)
            np.testing.assert_array_equal(found, expected, f"{kernels} {threads} {streamed}")


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


@pytest.fixture
def classify(tmp_path: Path) -> Classifier:
    path = tmp_path / "m.sqz"
    path.write_bytes(encode(random_network(3)))
    return Classifier(path)


def picture(kind: str, folder: Path) -> Path:
    """Write a picture that a careless reader shows otherwise than a viewer does."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    rgb[:15] //= 4  # so that turning it matters
    path = folder / f"{kind}.{'jpg' if kind in ('exif', 'cmyk') else 'png'}"
    options: dict[str, object] = {}
    image = Image.fromarray(rgb)
    if kind == "exif":
        exif = image.getexif()
        exif[0x0112] = 6  # the camera was held upright
        options["exif"] = exif
    elif kind == "rgba":
        image.putalpha(Image.fromarray(rng.integers(0, 256, (30, 40), dtype=np.uint8)))
    elif kind == "grey16":
        image = Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16))
    elif kind == "palette":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
        options["transparency"] = 0
    elif kind == "cmyk":
        image = image.convert("CMYK")
    image.save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["rgb", "exif", "rgba", "grey16", "palette", "cmyk"])
def test_predictions_do_not_depend_on_how_an_image_comes_in(
    classify: Classifier, tmp_path: Path, kind: str
) -> None:
    path = picture(kind, tmp_path)
    expected = classify(read_image(path))
    with Image.open(path) as image:
        assert classify(image) == expected
    assert classify(path) == classify(str(path)) == expected
    assert classify(path.read_bytes()) == classify(bytearray(path.read_bytes())) == expected
    assert classify(io.BytesIO(path.read_bytes())) == expected
    with path.open("rb") as file:
        assert classify(file) == expected


def test_the_kinds_of_pictures_differ_when_read_carelessly(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    for kind in ("exif", "rgba", "grey16", "palette"):
        path = picture(kind, tmp_path)
        with Image.open(path) as image:
            careless = np.asarray(image.convert("RGB"))
        assert not np.array_equal(careless, read_image(path)), kind


def test_predictions_are_the_best_first(classify: Classifier) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    two = classify(pixels, top=2)
    assert len(two) == 2 and two[0].probability >= two[1].probability
    everything = classify(pixels, top=1000)
    assert len(everything) == classify.num_classes and everything[:2] == two
    assert sum(prediction.probability for prediction in everything) == pytest.approx(1)
    assert [p.label for p in sorted(everything)] == sorted(classify.classes)
    assert classify.integer_logits(np.zeros((0, *classify.crop_shape), np.uint8)).shape[0] == 0


def test_grey_pixels_are_equal_channels(classify: Classifier) -> None:
    grey = np.random.default_rng(2).integers(0, 256, (30, 40), dtype=np.uint8)
    assert classify(grey) == classify(np.stack([grey] * 3, axis=2))
    assert classify(grey) == classify(Image.fromarray(grey))


def test_an_array_need_not_be_contiguous(classify: Classifier) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert classify(pixels[::2, ::-2]) == classify(pixels[::2, ::-2].copy())


def test_a_list_of_images_gives_a_list(classify: Classifier, tmp_path: Path) -> None:
    path = picture("rgb", tmp_path)
    images = [path, path.read_bytes(), read_image(path)]
    assert classify(images, top=2) == [classify(path, top=2)] * 3
    assert classify(tuple(images)) == classify(images)
    assert classify([]) == []


def test_the_default_is_the_network_of_the_package(tmp_path: Path) -> None:
    default = Classifier()
    assert default.classes == Classifier("default").classes == Classifier(DEFAULT_MODEL).classes
    assert default.classes[:2] == ("airplane", "automobile") and default.class_ids == ()
    path = picture("rgb", tmp_path)
    assert default(path) == Classifier(DEFAULT_MODEL.read_bytes())(path)
    with DEFAULT_MODEL.open("rb") as file:
        assert default(path) == Classifier(file)(path)


def test_repr_says_what_it_is(tmp_path: Path) -> None:
    model = random_network(3)
    data = encode(model)
    (tmp_path / "photos.sqz").write_bytes(data)
    classifier = Classifier(str(tmp_path / "photos.sqz"), kernels="portable", streamed=True)
    height, width = model.record.preprocessing.crop
    colour = "grey" if model.record.preprocessing.channels == "L" else "RGB"
    assert repr(classifier) == (
        f"Classifier({str(tmp_path / 'photos.sqz')!r}, {len(model.record.class_names)} classes, "
        f"{height}x{width} {colour}, {len(data):,} bytes, kernels 'portable', streamed)"
    )
    assert repr(Classifier()).startswith("Classifier('default', 10 classes, 32x32 RGB, 89,981 byte")


@pytest.mark.parametrize("kind", [Classifier, Engine])
def test_pickled_and_copied(tmp_path: Path, kind: type[Engine]) -> None:
    """From the bytes and the options: the file may be gone."""
    path = tmp_path / "m.sqz"
    path.write_bytes(encode(random_network(3)))
    original = kind(path, threads=2, kernels="portable", streamed=True)
    path.unlink()
    pixels = bytes(range(256)) * 3
    expected = original.predict_bytes(pixels, 16, 16, 5)
    for twin in (
        pickle.loads(pickle.dumps(original)),
        copy.copy(original),
        copy.deepcopy([original])[0],
    ):
        assert type(twin) is kind and repr(twin) == repr(original)
        assert (twin.classes, twin.class_ids) == (original.classes, original.class_ids)
        assert (twin.arena_bytes, twin.memory_bytes) == (
            original.arena_bytes,
            original.memory_bytes,
        )
        assert twin.predict_bytes(pixels, 16, 16, 5) == expected


def test_kernels_of_another_machine_are_refused_when_unpickled() -> None:
    state = Classifier(kernels="portable").__getstate__()
    twin = Classifier.__new__(Classifier)
    with pytest.raises(UsageError, match="no kernels 'abacus' here, expected one of"):
        twin.__setstate__(state | {"_asked_kernels": "abacus"})


def test_in_worker_processes(classify: Classifier) -> None:
    pixels = [np.full((9, 9, 3), value, np.uint8) for value in (0, 90, 250)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(classify, pixels) == [classify(each) for each in pixels]


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


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (None, "image: found None, expected a path, bytes or a file object of an image file"),
        (7, "image: found the number 7, expected"),
        (np.zeros((4, 4, 3)), "image: found floats in 0..1 (float64 (4, 4, 3)), expected"),
        (
            np.zeros((4, 4, 4), np.uint8),
            "image: found four channels, as RGBA (uint8 (4, 4, 4)), expected",
        ),
        (np.zeros((0, 4, 3), np.uint8), "image: found no pixels (uint8 (0, 4, 3)), expected"),
        (np.zeros((2, 4, 4, 3), np.uint8), "pass list(array) for a batch"),
        ("none.jpg", "none.jpg: no such file"),
        (b"GIF89a", "image in memory: not a readable image"),
        (io.StringIO("text"), "file object: gives text, expected a file opened for bytes"),
        ([np.zeros((4, 4), np.uint8), 7], "image 1 of the list: found the number 7, expected"),
        ([[0, 1], [2, 3]], "image: found a list of numbers, expected"),
    ],
)
def test_what_is_no_image_is_named(classify: Classifier, image: object, found: str) -> None:
    with pytest.raises(ImageError, match=re.escape(found)) as caught:
        classify(image)
    assert "\n" not in str(caught.value)


def test_a_closed_pillow_image_is_refused(classify: Classifier, tmp_path: Path) -> None:
    image = Image.open(picture("rgb", tmp_path))
    image.close()
    with pytest.raises(ImageError, match="Pillow image: its file was closed"):
        classify(image)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (7, "model: found int, expected the path of a .sqz file"),
        (io.StringIO("text"), "model: gives text, expected a file opened for bytes"),
    ],
)
def test_what_is_no_model_is_named(model: object, found: str) -> None:
    with pytest.raises(UsageError, match=re.escape(found)):
        Classifier(model)


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


def test_limits_hold_however_a_picture_comes(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (20, 10)).save(path)
    limits = squeezenet.ImageLimits(max_pixels=199)
    classify, opened = Classifier(), squeezenet.open_model()
    content = path.read_bytes()
    with Image.open(path) as image:
        for ask in (classify, opened.predict):
            for each in (path, content, io.BytesIO(content), image):
                with pytest.raises(ImageError, match="20x10 pixels, expected at most 199"):
                    ask(each, limits=limits)
    assert classify(path, limits=squeezenet.ImageLimits(max_pixels=200))
