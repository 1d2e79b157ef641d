"""Draw ``docs/images/page.png`` and ``report.png``: the page in both themes, and a report.

    squeezenet demo
    python docs/page_capture.py demo/run/report/report.html

The page is that of ``squeezenet serve default``. Needs playwright and Chromium. The picture that it
classifies is drawn here.
"""

from __future__ import annotations

import shutil
import sys
import threading
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Browser, sync_playwright

from squeezenet.client import Classifier
from squeezenet.export.server import FileServer
from squeezenet.export.web import web_site

IMAGES = Path(__file__).parent / "images"
_SIZE = {"width": 390, "height": 740}
_GAP = 24
_REPORT_SIZE = {"width": 820, "height": 740}


def main() -> None:
    site = web_site(Classifier()._data, "cifar10.sqz")
    with FileServer(site, host="127.0.0.1", port=0) as server, sync_playwright() as running:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        shots = [capture(browser, server.url, theme) for theme in ("light", "dark")]
        capture_report(browser, Path(sys.argv[1])).save(IMAGES / "report.png", optimize=True)
        browser.close()
        server.shutdown()
    width = sum(shot.width for shot in shots) + _GAP * (len(shots) - 1)
    both = Image.new("RGBA", (width, shots[0].height))
    for i, shot in enumerate(shots):
        both.paste(shot, (i * (shot.width + _GAP), 0))
    both.quantize(128).save(IMAGES / "page.png", optimize=True)


def capture(browser: Browser, url: str, theme: str) -> Image.Image:
    context = browser.new_context(viewport=_SIZE, color_scheme=theme)
    page = context.new_page()
    page.goto(url)
    page.get_by_text("Ready.").wait_for()
    buffer = BytesIO()
    drawn_ship().save(buffer, "JPEG", quality=92)
    file = {"name": "ship.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    page.set_input_files("#files", files=[file])
    page.locator("#cost").get_by_text("ship.jpg").wait_for()
    shot = Image.open(BytesIO(page.screenshot()))
    context.close()
    return shot


def capture_report(browser: Browser, path: Path) -> Image.Image:
    context = browser.new_context(viewport=_REPORT_SIZE, color_scheme="light")
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    shot = Image.open(BytesIO(page.screenshot()))
    context.close()
    return shot.quantize(64)


def drawn_ship() -> Image.Image:
    width, height, horizon = 640, 480, 300
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        t = y / height
        draw.line([(0, y), (width, y)], fill=(int(150 + 60 * t), int(195 + 30 * t), 235))
    for y in range(horizon, height):
        t = (y - horizon) / (height - horizon)
        colour = (int(40 - 10 * t), int(100 - 30 * t), int(140 - 30 * t))
        draw.line([(0, y), (width, y)], fill=colour)
    draw.polygon([(90, 285), (560, 270), (520, 345), (140, 350)], fill=(60, 62, 70))
    draw.polygon([(90, 285), (560, 270), (557, 282), (97, 297)], fill=(200, 60, 50))
    draw.rectangle([220, 205, 420, 280], fill=(240, 240, 236))
    draw.rectangle([260, 160, 380, 205], fill=(225, 228, 230))
    draw.rectangle([300, 95, 340, 160], fill=(215, 140, 50))
    draw.rectangle([300, 95, 340, 112], fill=(40, 40, 44))
    for x in range(235, 410, 28):
        draw.rectangle([x, 225, x + 12, 240], fill=(60, 80, 100))
    draw.line([(470, 150), (470, 275)], fill=(90, 90, 95), width=5)
    draw.line([(470, 160), (420, 270)], fill=(90, 90, 95), width=2)
    for i, x in enumerate(range(0, width, 40)):
        box = [x, 340 + (i % 3) * 30, x + 60, 360 + (i % 3) * 30]
        draw.arc(box, 200, 340, fill=(120, 165, 190), width=3)
    return image.filter(ImageFilter.GaussianBlur(1.2))


if __name__ == "__main__":
    main()
