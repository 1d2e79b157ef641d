"""Latency in the browser, beside onnxruntime-web: the same network, one thread, by turns.

    squeezenet compress squeezenet1_1.pth --calib photos --target-bytes 243860 --out v11.sqz
    python bench/web_latency.py v11.sqz --work web-latency

Needs npm, Chromium, and the packages playwright and onnx. onnxruntime-web runs the ONNX files of
``squeezenet export --to onnx`` by WebAssembly with SIMD, its fastest way without a GPU. Ours
resizes and crops the picture within the time; its input is made beforehand. Warm-up, then turns of
all contenders in the same page, each some runs long. Medians of the turns.

Also: the time from the model's arrival to the first answer, and from the bytes to the loaded model,
in fresh pages.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from squeezenet.export.server import FileServer
from squeezenet.export.web import web_site

_BUILDS = ("relaxed", "simd")
_RUNS = 10
_OURS = """
async ([build, side]) => {
  const { load } = await import("/sqz.js");
  const bytes = await (await fetch("/model.sqz")).arrayBuffer();
  await load(bytes, { build }); // compiles the runtime, as a page does while the model comes
  const start = performance.now();
  const model = await load(bytes, { build });
  const loaded = performance.now();
  const data = new Uint8Array(4 * side * side).map((_, i) => (i % 4 === 3 ? 255 : (i * 37) & 255));
  const picture = { data, width: side, height: side };
  model.classifyPixels(picture);
  const first = performance.now();
  globalThis.turns ??= {};
  globalThis.turns[build] = async (runs) => {
    const start = performance.now();
    for (let i = 0; i < runs; i++) model.classifyPixels(picture);
    return (performance.now() - start) / runs;
  };
  return [loaded - start, first - start];
}
"""
_THEIRS = """
async ([name, file, side]) => {
  const ort = await import("/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/";
  const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
  const pixels = new Float32Array(3 * side * side).map((_, i) => ((i * 37) & 255) / 128 - 1);
  const input = new ort.Tensor("float32", pixels, [1, 3, side, side]);
  globalThis.turns[name] = async (runs) => {
    const start = performance.now();
    for (let i = 0; i < runs; i++) await session.run({ [session.inputNames[0]]: input });
    return (performance.now() - start) / runs;
  };
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .sqz for integer clients")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is downloaded")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    options = parser.parse_args()
    files = dict(web_site(options.model.read_bytes(), options.model.name))
    forms = peers(options.model, options.work, files)
    # Pages of the export forbid inline scripts; this one is empty.
    files["index.html"] = b"<!doctype html><title>latency</title>"
    with FileServer(files, host="127.0.0.1", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        measure(server.url, forms, options)
        server.shutdown()


def peers(model: Path, work: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Add onnxruntime-web and its models to ``files``; return the models by the form's name."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "node_modules" / "onnxruntime-web").exists():
        (work / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web"], cwd=work,
                       check=True, stdout=sys.stderr)  # fmt: skip
    built = work / "node_modules" / "onnxruntime-web" / "dist"
    for path in built.glob("ort*wasm*"):
        if path.suffix in (".mjs", ".wasm"):
            files[path.name] = path.read_bytes()
    command = [sys.executable, "-m", "squeezenet", "export", str(model), "--to", "onnx"]
    subprocess.run([*command, "--out", str(work / "onnx")], check=True, stdout=sys.stderr)
    forms = {}
    for path in sorted((work / "onnx").glob("*.onnx")):
        files[path.name] = path.read_bytes()
        forms[f"onnxruntime-web {path.stem}"] = path.name
    return forms


def measure(url: str, forms: dict[str, str], options: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        print(description(browser.version, options.work), flush=True)
        side = json.loads(record_of(options.model))["preprocessing"]["resize"]
        ready: dict[str, list[tuple[float, float]]] = {build: [] for build in _BUILDS}
        for _ in range(5):
            for build in _BUILDS:
                page = browser.new_page()
                page.goto(url)
                loaded, first = page.evaluate(_OURS, [build, side])
                ready[build].append((loaded, first))
                page.close()
        page = browser.new_page()
        page.goto(url)
        for build in _BUILDS:
            page.evaluate(_OURS, [build, side])
        crop = json.loads(record_of(options.model))["preprocessing"]["crop"][0]
        for name, file in forms.items():
            page.evaluate(_THEIRS, [name, f"/{file}", crop])
        times: dict[str, list[float]] = {name: [] for name in [*_BUILDS, *forms]}
        for turn in range(-2, options.turns):
            for name in times:
                found = page.evaluate("([name, runs]) => turns[name](runs)", [name, _RUNS])
                if turn >= 0:
                    times[name].append(found)
        browser.close()
    report(times, ready)


def report(times: dict[str, list[float]], ready: dict[str, list[tuple[float, float]]]) -> None:
    print("\n| | ms | quartiles | ours / it |\n|---|--:|--:|--:|")
    for name, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        ratios = [ours / its for ours, its in zip(times[_BUILDS[0]], found, strict=True)]
        label = f"ours, {name}" if name in _BUILDS else name
        ratio = statistics.median(ratios)
        print(f"| {label} | {middle:.2f} | {low:.2f} .. {high:.2f} | {ratio:.2f} |")
    print("\n| build | bytes to loaded model, ms | to the first answer, ms |\n|---|--:|--:|")
    for build, pairs in ready.items():
        loaded, first = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"| {build} | {loaded:.0f} | {first:.0f} |")


def record_of(model: Path) -> str:
    from squeezenet.client import Classifier

    return Classifier(model).record.to_json()


def description(browser: str, work: Path) -> str:
    package: dict[str, Any] = json.loads(
        (work / "node_modules" / "onnxruntime-web" / "package.json").read_text()
    )
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "CPU")
    return (
        f"{cpu}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), Chromium {browser}, "
        f"onnxruntime-web {package['version']}, one thread; 2 warm-up turns of {_RUNS} runs"
    )


if __name__ == "__main__":
    main()
