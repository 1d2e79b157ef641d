"""Latency in the browser, beside onnxruntime-web: the same network, by turns, on 1 thread and 2.

    squeezenet compress squeezenet1_1.pth --calib photos --target-bytes 243860 --out v11.sqz
    python bench/web_latency.py v11.sqz --work web-latency

Needs npm, Chromium, and the packages playwright and onnx. onnxruntime-web runs the ONNX files of
``squeezenet export --to onnx`` by WebAssembly with SIMD, its fastest way without a GPU. Ours
resizes and crops the picture within the time; its input is made beforehand. Each contender has a
page of its own and computes in a worker. Warm-up, then turns of all of them, each some runs long.
Medians of the turns. Two threads want two cores and nothing else that runs.

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

_CONFIGS = (("relaxed", 1), ("simd", 1), ("relaxed-threads", 2), ("simd-threads", 2))
"""Builds of ours, and how many threads; the first is what all are compared with."""
_RUNS = 10
_WORKER = """
import { load } from "/sqz.js";
const pixels = (side, count) => new Uint8Array(count * side * side).map((_, i) => (i * 37) & 255);
const turns = {};
const methods = {
  async ours([name, build, threads, side]) {
    const bytes = await (await fetch("/model.sqz")).arrayBuffer();
    await load(bytes, { build }); // compiles the runtime, as a page does while the model comes
    const start = performance.now();
    const model = await load(bytes, { build, threads });
    const loaded = performance.now();
    const data = pixels(side, 4).map((value, i) => (i % 4 === 3 ? 255 : value));
    const picture = { data, width: side, height: side };
    model.classifyPixels(picture);
    const first = performance.now();
    turns[name] = () => model.classifyPixels(picture);
    if (model.threads !== threads) throw Error(`${name} has ${model.threads} threads`);
    return [loaded - start, first - start];
  },
  async theirs([name, file, side, threads]) {
    const ort = await import("/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = "/";
    const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    const values = Float32Array.from(pixels(side, 3), (value) => value / 128 - 1);
    const input = new ort.Tensor("float32", values, [1, 3, side, side]);
    turns[name] = () => session.run({ [session.inputNames[0]]: input });
  },
  async turn([name, runs]) {
    const start = performance.now();
    for (let i = 0; i < runs; i++) await turns[name]();
    return (performance.now() - start) / runs;
  },
};
addEventListener("message", async ({ data: [method, values] }) => {
  try { postMessage([await methods[method](values)]); }
  catch (error) { postMessage([null, String(error)]); }
});
"""
_START = """
() => {
  globalThis.worker = new Worker("/bench.js", { type: "module" });
  globalThis.ask = (...call) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data: [result, error] }) => (error ? reject(error) : resolve(result));
    worker.onerror = reject;
    worker.postMessage(call);
  });
}
"""
_ASK = "([method, values]) => ask(method, values)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .sqz for integer clients")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is downloaded")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--form", help="the one ONNX file to run beside ours, such as int8")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    options = parser.parse_args()
    files = dict(web_site(options.model.read_bytes(), options.model.name))
    forms = peers(options.model, options.work, files, options.form)
    # Pages of the export forbid inline scripts; this one is empty.
    files["index.html"] = b"<!doctype html><title>latency</title>"
    files["bench.js"] = _WORKER.encode()
    with FileServer(files, host="127.0.0.1", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        measure(server.url, forms, options)
        server.shutdown()


def peers(
    model: Path, work: Path, files: dict[str, bytes], form: str | None = None
) -> dict[str, str]:
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
    for path in sorted((work / "onnx").glob(f"{form or '*'}.onnx")):
        files[path.name] = path.read_bytes()
        forms[f"onnxruntime-web {path.stem}"] = path.name
    return forms


def measure(url: str, forms: dict[str, str], options: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        print(description(browser.version, options.work), flush=True)
        side = json.loads(record_of(options.model))["preprocessing"]["resize"]
        ready: dict[str, list[tuple[float, float]]] = {_name(*each): [] for each in _CONFIGS}
        for _ in range(5):
            for build, threads in _CONFIGS:
                page = opened(browser, url)
                call = [_name(build, threads), build, threads, side]
                loaded, first = page.evaluate(_ASK, ["ours", call])
                ready[_name(build, threads)].append((loaded, first))
                page.close()
        crop = json.loads(record_of(options.model))["preprocessing"]["crop"][0]
        pages = {}
        for build, threads in _CONFIGS:
            name = _name(build, threads)
            pages[name] = opened(browser, url)
            pages[name].evaluate(_ASK, ["ours", [name, build, threads, side]])
        for form, file in forms.items():
            for threads in (1, 2):
                name = _name(form, threads)
                pages[name] = opened(browser, url)
                pages[name].evaluate(_ASK, ["theirs", [name, f"/{file}", crop, threads]])
        times: dict[str, list[float]] = {name: [] for name in pages}
        for turn in range(-2, options.turns):
            for name, page in pages.items():
                found = page.evaluate(_ASK, ["turn", [name, _RUNS]])
                if turn >= 0:
                    times[name].append(found)
        browser.close()
    report(times, ready)


def _name(contender: str, threads: int) -> str:
    return f"{contender}, {threads} thread{'s' * (threads > 1)}"


def opened(browser: Any, url: str) -> Any:
    page = browser.new_page()
    page.goto(url)
    page.evaluate(_START)
    return page


def report(times: dict[str, list[float]], ready: dict[str, list[tuple[float, float]]]) -> None:
    print("\n| | ms | quartiles | ours on as many threads / it |\n|---|--:|--:|--:|")
    for name, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        (ours,) = (
            times[_name(*each)] for each in _CONFIGS[::2] if name.endswith(_name("", each[1]))
        )
        ratio = statistics.median([a / b for a, b in zip(ours, found, strict=True)])
        label = f"ours, {name}" if name in ready else name
        print(f"| {label} | {middle:.2f} | {low:.2f} .. {high:.2f} | {ratio:.2f} |")
    one, two = (times[_name(*each)] for each in _CONFIGS[::2])
    speedup = statistics.median([a / b for a, b in zip(one, two, strict=True)])
    print(f"\nTwo threads of ours beside one: {speedup:.2f} times as fast")
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
        f"onnxruntime-web {package['version']}; 2 warm-up turns of {_RUNS} runs"
    )


if __name__ == "__main__":
    main()
