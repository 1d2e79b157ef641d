"""The exported page in Chromium: answers, bad files, camera, offline, accessibility.

Needs playwright and Chromium (pip install playwright; Debian: apt install chromium), for
accessibility also npm.
"""

from __future__ import annotations

import base64
import functools
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from squeezenet.client import Classifier
from squeezenet.export.server import FileServer
from squeezenet.export.web import missing_builds, web_site
from tests.conftest import SHARED

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs Chromium, and there is none in the path", allow_module_level=True)
if missing_builds():
    pytest.skip("built without Zig, so without the web runtime", allow_module_level=True)
pytestmark = pytest.mark.slow

_DROP = """
([name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}
"""
_DECODE = """
async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const { load } = await import("./sqz.js");
  globalThis.tested ??= await load("model.sqz");
  const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const drawing = canvas.getContext("2d");
  drawing.drawImage(bitmap, 0, 0);
  const { data } = drawing.getImageData(0, 0, bitmap.width, bitmap.height);
  await tested.classify(new Blob([bytes]));
  const text = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([data]));
  });
  return [bitmap.width, bitmap.height, text, [...tested.logits()]];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server() -> Iterator[FileServer]:
    """The page of the network that comes with the package."""
    yield from served(Classifier()._data)


def served(data: bytes) -> Iterator[FileServer]:
    with FileServer(web_site(data, "pets.sqz"), host="127.0.0.1", port=0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Any, server: FileServer) -> Iterator[Any]:
    yield from opened(browser, server)


def opened(browser: Any, server: FileServer, **options: object) -> Iterator[Any]:
    """The page, ready; errors that it did not show fail the test."""
    context = browser.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.get_by_text("Ready.").wait_for()
    yield page
    context.close()
    assert not errors


def drop(page: Any, name: str, content: bytes, kind: str = "image/jpeg") -> None:
    page.evaluate("document.getElementById('cost').textContent = ''")
    page.evaluate(_DROP, [name, kind, base64.b64encode(content).decode()])
    page.locator("#cost").get_by_text(name).wait_for()


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def shown(page: Any) -> list[str]:
    return [text.split("\n")[0] for text in page.locator("#answer li").all_inner_texts()]


def check_pictures(page: Any, classifier: Classifier, pictures: list[bytes]) -> None:
    """Dropped pictures give the C runtime's logits for the same decoded pixels, and its top 5."""
    for i, content in enumerate(pictures):
        drop(page, f"{i}.jpg", content)
        width, height, text, logits = page.evaluate(_DECODE, base64.b64encode(content).decode())
        rgba = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
        rgb = np.ascontiguousarray(rgba[:, :, :3])
        assert logits == classifier.integer_logits(classifier.crop(rgb)[None])[0].tolist()
        assert shown(page) == [each.label for each in classifier(rgb)]


def test_a_picture_is_classified(page: Any) -> None:
    check_pictures(page, Classifier(), [encoded(noise(90, 120, i), "JPEG") for i in range(3)])
    assert "KB of model" in page.inner_text("#cost")


_THREADS = """
async (threads) => {
  const { loadInWorker, supportedBuilds } = await import("./sqz.js");
  const model = await loadInWorker("model.sqz", threads ? { threads } : {});
  const data = new Uint8Array(4 * 70 * 50).map((_, i) => (i * i * 37) >> 5);
  const found = new Set();
  for (let i = 0; i < 30; i++) {
    await model.classify({ data, width: 70, height: 50 });
    found.add((await model.logits()).join());
  }
  model.close();
  return [model.threads, model.build, [...found]];
}
"""


def test_threads_where_the_page_is_isolated(browser: Any, server: FileServer) -> None:
    """As many as cores, up to 4, with the logits of one; elsewhere one, whatever is asked."""
    for page in opened(browser, server):
        cores = page.evaluate("navigator.hardwareConcurrency")
        threads, build, [logits] = page.evaluate(_THREADS)
        assert (threads, build) == (min(4, cores), "relaxed-threads" if cores > 1 else "relaxed")
        assert page.evaluate(_THREADS, 1) == [1, "relaxed", [logits]]
        assert page.evaluate(_THREADS, 3) == [3, "relaxed-threads", [logits]]
    context = browser.new_context()

    def without_isolation(route: Any) -> None:
        response = route.fetch()
        unsent = ("cross-origin-embedder-policy", "cross-origin-opener-policy")
        headers = {name: value for name, value in response.headers.items() if name not in unsent}
        route.fulfill(response=response, headers=headers)

    context.route("**/*", without_isolation)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_text("Ready.").wait_for()
    assert page.evaluate("crossOriginIsolated") is False
    for asked in (0, 3):
        assert page.evaluate(_THREADS, asked) == [1, "relaxed", [logits]]
    context.close()


def test_photographs_on_the_imagenet_page(browser: Any, tmp_path: Path) -> None:
    weights = SHARED / "squeezenet1_1-fp16.pth"
    pictures = sorted((SHARED / "imagenet-val500").rglob("*.jpg"))[:500:10]
    if not weights.exists() or len(pictures) != 50:
        pytest.skip("needs ../shared/data")
    data = imagenet_model(tmp_path)
    site = web_site(data, "v11.sqz")
    for server in served(data):
        for page in opened(browser, server):
            check_pictures(page, Classifier(data), [each.read_bytes() for each in pictures])
    loaded = {name for name in site if not name.endswith((".d.ts", ".zlib"))}
    loaded |= {"sqz-relaxed-threads.wasm.zlib"}
    assert sum(len(site[name]) for name in loaded) <= 300_000


def imagenet_model(folder: Path) -> bytes:
    """ImageNet's v1.1 in 1/1000 of AlexNet's bytes; few pictures and little search suffice here."""
    calibration = folder / "calibration"
    calibration.mkdir()
    for path in sorted((SHARED / "imagenet-train1k").rglob("*.jpg"))[::20]:
        shutil.copy(path, calibration / path.name)
    out = folder / "v11.sqz"
    command = [sys.executable, "-m", "squeezenet", "compress", SHARED / "squeezenet1_1-fp16.pth"]
    options = ["--calib", calibration, "--effort", "low", "--target-bytes", "243860", "--out", out]
    subprocess.run([*command, *options], check=True)
    return out.read_bytes()


def test_bad_files_have_a_message_and_the_page_goes_on(page: Any) -> None:
    for name, content in {
        "text.jpg": b"this is no picture\n" * 20,
        "empty.jpg": b"",
        "cut.jpg": encoded(noise(300, 300), "JPEG")[:60],
    }.items():
        drop(page, name, content)
        assert "alert" in page.locator("#status").get_attribute("class")
        assert "picture" in page.inner_text("#status") or "empty" in page.inner_text("#status")
        assert not shown(page)
    drop(page, "good.jpg", encoded(noise(90, 120), "JPEG"))
    assert len(shown(page)) == 5


def test_an_animated_gif_gives_its_first_frame(page: Any) -> None:
    frames = [noise(64, 64, seed) for seed in (1, 2, 3)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    drop(page, "a.gif", gif, "image/gif")
    assert shown(page)[0] == Classifier()(gif)[0].label


def test_a_picture_of_100_megapixels(page: Any) -> None:
    large = encoded(Image.new("RGB", (10_000, 10_000), "skyblue"), "PNG", compress_level=1)
    drop(page, "large.png", large, "image/png")
    status = page.inner_text("#status")
    assert len(shown(page)) == 5 or "large" in status or "memory" in status
    drop(page, "good.jpg", encoded(noise(90, 120), "JPEG"))
    assert len(shown(page)) == 5


def test_a_rotated_picture_stands_upright(page: Any) -> None:
    upright = noise(80, 120)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn by 90 degrees
    turned = encoded(upright.rotate(90, expand=True), "JPEG", quality=98, subsampling=0, exif=exif)
    width, height, text, _ = page.evaluate(_DECODE, base64.b64encode(turned).decode())
    assert (width, height) == (120, 80)
    rgba = np.frombuffer(base64.b64decode(text), np.uint8).reshape(80, 120, 4)
    assert np.abs(rgba[:, :, :3].astype(int) - np.asarray(upright)).mean() < 4


@pytest.mark.parametrize("fault", ["damaged", "lost", "missing"])
def test_a_model_that_does_not_come_can_be_tried_again(
    browser: Any, server: FileServer, fault: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    content = server.files["model.sqz"]

    def answer(route: Any) -> None:
        if fault == "damaged":
            route.fulfill(body=content[:5000] + b"x" + content[5001:])
        elif fault == "lost":
            route.abort()
        else:
            route.fulfill(status=404, body="not here")

    context.route("**/model.sqz", answer)
    page.goto(server.url)
    page.get_by_text("Try again", exact=True).wait_for()
    status = page.inner_text("#status")
    expected = {"damaged": "damaged", "lost": "ould not fetch", "missing": "404"}
    assert expected[fault] in status
    context.unroute("**/model.sqz")
    page.click("#retry")
    page.get_by_text("Ready.").wait_for()
    context.close()


def test_the_camera(browser: Any, server: FileServer) -> None:
    for page in opened(browser, server, permissions=["camera"]):
        page.click("#camera")
        page.locator("#answer li").first.wait_for()
        assert page.get_attribute("#camera", "aria-pressed") == "true"
        page.click("#camera")
        assert page.locator("#video").is_hidden()
        drop(page, "after.jpg", encoded(noise(90, 120), "JPEG"))


def test_nothing_leaves_the_page_and_it_works_offline(browser: Any, server: FileServer) -> None:
    context = browser.new_context()
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.goto(server.url)
    page.get_by_text("Ready.").wait_for()
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    page.wait_for_timeout(1500)  # it keeps the files
    own = {f"{server.url}{name}" for name in server.files} | {server.url, server.url + "./"}
    assert set(requests) <= own
    requests.clear()
    drop(page, "p.jpg", encoded(noise(90, 120), "JPEG"))
    assert not requests
    build = page.evaluate("document.documentElement.dataset.build")
    context.set_offline(True)
    page.reload()
    page.get_by_text("Ready.").wait_for()
    assert page.evaluate("document.documentElement.dataset.build") == build  # still isolated
    drop(page, "offline.jpg", encoded(noise(90, 120), "JPEG"))
    assert len(shown(page)) == 5
    context.close()


def test_many_pictures_and_the_search(page: Any, tmp_path: Path) -> None:
    files = []
    for i in range(3):
        files.append(tmp_path / f"{i}.png")
        noise(50, 60, i).save(files[-1])
    page.set_input_files("#files", files)
    page.locator("#list li").nth(2).wait_for()
    page.locator("#list button").last.focus()
    page.keyboard.press("Enter")
    page.locator("#cost").get_by_text("0.png").wait_for()
    page.locator("summary").click()
    page.fill("#search", "ship")
    assert page.locator("#classes li").all_inner_texts() == ["ship"]
    page.fill("#threshold", "100")
    page.set_input_files("#files", files[:1])
    page.locator("#status").get_by_text("Unsure").wait_for()


@functools.cache
def axe() -> str:
    install = ["npm", "install", "--no-audit", "--no-fund", "axe-core"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(install, cwd=folder, check=True)
        return (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_accessibility(browser: Any, server: FileServer, theme: str, width: int) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm for axe-core, and there is none in the path")
    size = {"width": width, "height": 800}
    options = {"color_scheme": theme, "viewport": size, "bypass_csp": True}
    for page in opened(browser, server, **options):
        drop(page, "p.jpg", encoded(noise(90, 120), "JPEG"))
        drop(page, "text.jpg", b"no picture")
        page.locator("summary").click()
        page.evaluate(axe())
        found = page.evaluate("axe.run().then(({ violations }) => violations)")
        assert not [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
        scroll = page.evaluate("document.documentElement.scrollWidth")
        assert scroll <= width  # nothing is cut off to the right
