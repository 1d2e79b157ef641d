"""The runtime in WebAssembly gives the logits of the reference, whatever the instructions do."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from squeezenet.client import Classifier
from squeezenet.codec.container import encode
from squeezenet.export.touch_icon import touch_icon
from squeezenet.export.web import BUILDS, missing_builds, web_site
from tests.runtime.networks import random_network
from tests.web.runtime import WebRuntime

pytestmark = pytest.mark.skipif(bool(missing_builds()), reason="built without Zig")
ALONE = [build for build in BUILDS if not build.endswith("-threads")]
"""Builds without threads; wasmtime's Python package cannot import a shared memory. The others run
in ``test_module.py``."""
RUNTIMES = [*((build, False) for build in ALONE), ("relaxed", True)]


@pytest.fixture(scope="module", params=RUNTIMES, ids=lambda each: f"{each[0]}-{each[1]}")
def runtime(request: pytest.FixtureRequest) -> WebRuntime:
    build, deterministic = request.param
    return WebRuntime(build, deterministic=deterministic)


@pytest.mark.parametrize("seed", range(12))
def test_logits_are_those_of_the_reference(runtime: WebRuntime, seed: int) -> None:
    data = encode(random_network(seed))
    assert runtime.load(data) == 0
    classifier = Classifier(data, kernels="portable")
    rng = np.random.default_rng(seed)
    for height, width in ((61, 50), (33, 97)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = classifier.integer_logits(classifier.crop(pixels)[None])[0]
        np.testing.assert_array_equal(runtime.logits(pixels), expected)


def test_the_instruction_decides_which_kernel_runs() -> None:
    """A signed operand takes WASM-DOT, an unsigned one WASM-MADD."""
    data = encode(random_network(0))
    names = {}
    for build, deterministic in RUNTIMES:
        runtime = WebRuntime(build, deterministic=deterministic)
        assert runtime.load(data) == 0
        names[build, deterministic] = runtime.kernels
    assert names["relaxed", True] == "WASM-DOT"
    assert names["relaxed", False] in ("WASM-MADD", "WASM-DOT")
    assert names["simd", False] == "WASM-SIMD"
    assert names["plain", False] == "portable"


def test_there_are_no_imports(runtime: WebRuntime) -> None:
    assert not runtime.module.imports


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_cut_file_is_an_error(runtime: WebRuntime, cut: int) -> None:
    assert runtime.load(encode(random_network(1))[:cut]) > 0
    assert runtime.call("picture", 10, 10) == 0  # there is no model


def test_a_picture_beyond_the_memory_is_refused(runtime: WebRuntime) -> None:
    data = encode(random_network(1))
    assert runtime.load(data) == 0
    assert runtime.call("picture", 1 << 16, 1 << 16) == 0
    assert runtime.call("picture", 20, 20) != 0


def test_the_site_is_small_and_its_version_is_that_of_its_files() -> None:
    default = Classifier()._data
    site = web_site(default, "cifar10.sqz")
    loaded = {name for name in site if not name.endswith((".d.ts", ".zlib"))}
    loaded |= {"sqz-relaxed-threads.wasm.zlib"}
    assert sum(len(site[name]) for name in loaded) <= 140_000
    assert b"VERSION" not in site["sw.js"]
    again = web_site(default, "other.sqz")
    assert hashlib.sha256(again["sw.js"]).digest() != hashlib.sha256(site["sw.js"]).digest()
    assert b">cifar10: image classifier<" in site["index.html"]


def test_the_icon_for_ios_shows_what_the_svg_does() -> None:
    image = Image.open(io.BytesIO(touch_icon()))
    assert image.size == (180, 180)
    pixels = np.asarray(image.convert("RGB"))
    blue, white = (0x1D, 0x5F, 0xA8), (255, 255, 255)
    for svg_x, svg_y, colour in (
        *((2, 2, blue), (93, 93, blue), (48, 37, blue), (15, 21, blue), (22, 48, blue)),
        *((20, 26, white), (76, 26, white), (48, 48, white), (56, 70, white)),
    ):
        assert tuple(pixels[svg_y * 180 // 96, svg_x * 180 // 96]) == colour, (svg_x, svg_y)
