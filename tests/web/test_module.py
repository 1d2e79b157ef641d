"""The JavaScript module in Node: the same answers, and errors with a code."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezenet import __version__
from squeezenet.client import Classifier
from squeezenet.codec.container import encode
from squeezenet.export.web import WEB, missing_builds
from tests.runtime.networks import random_network

NODE = shutil.which("node")
if NODE is None:
    pytest.skip("needs Node, and there is none in the path", allow_module_level=True)
if missing_builds():
    pytest.skip("built without Zig, so without the web runtime", allow_module_level=True)

_PRELUDE = f"""
import {{ load, SqzError, supportedBuilds }} from {json.dumps((WEB / "sqz.js").as_uri())};
import {{ readFile }} from "node:fs/promises";
import {{ pathToFileURL }} from "node:url";
const say = (value) => console.log(JSON.stringify(value));
"""


@functools.cache
def flags() -> list[str]:
    """What makes this Node know relaxed SIMD, where it does not by itself."""
    flag = "--experimental-wasm-relaxed-simd"
    options = subprocess.run([NODE, "--v8-options"], capture_output=True, text=True).stdout
    return [flag] if f"{flag} " in options else []


def run_node(script: str, folder: Path) -> Any:
    """Run a script with the module, and return what it says."""
    file = folder / "script.mjs"
    file.write_text(_PRELUDE + script)
    done = subprocess.run([NODE, *flags(), file], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.sqz"
    path.write_bytes(encode(random_network(3)))
    return path


def test_all_builds_answer_like_the_python_client(tmp_path: Path, model: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 55, 3), dtype=np.uint8)
    opaque = np.dstack([pixels, np.full((40, 55), 255, np.uint8)])
    (tmp_path / "p.rgba").write_bytes(opaque.tobytes())
    found = run_node(
        f"""
        const data = await readFile({json.dumps(str(tmp_path / "p.rgba"))});
        const found = [];
        for (const build of supportedBuilds()) {{
          const options = {{ build, threads: 2 }};
          const model = await load(pathToFileURL({json.dumps(str(model))}), options);
          const {{ predictions }} = await model.classify({{ data, width: 55, height: 40 }});
          found.push([[...model.logits()], predictions, model.classNames, model.record.spec]);
        }}
        say(found);
        """,
        tmp_path,
    )
    classifier = Classifier(model)
    logits = classifier.integer_logits(classifier.crop(pixels)[None])[0]
    expected = classifier(pixels)
    assert len(found) >= 2
    for its_logits, predictions, names, spec in found:
        assert its_logits == logits.tolist()
        assert [each["label"] for each in predictions] == [each.label for each in expected]
        assert [each["probability"] for each in predictions] == pytest.approx(
            [each.probability for each in expected], abs=1 / 4096
        )
        assert names == list(classifier.classes)
        assert spec == json.loads(classifier.record.to_json())["spec"]


def test_transparent_pixels_show_white(tmp_path: Path, model: Path) -> None:
    found = run_node(
        f"""
        const model = await load(await readFile({json.dumps(str(model))}));
        const size = {{ width: 20, height: 20 }};
        const logits = (data) => (model.classifyPixels({{ data, ...size }}), [...model.logits()]);
        const clear = new Uint8Array(1600);
        say([logits(clear), logits(new Uint8Array(1600).fill(255))]);
        """,
        tmp_path,
    )
    assert found[0] == found[1]


def test_errors_have_codes(tmp_path: Path, model: Path) -> None:
    (tmp_path / "damaged.sqz").write_bytes(model.read_bytes()[:-9] + b"damaged!!")
    found = run_node(
        f"""
        const code = async (call) => {{
          try {{ await call(); return "none"; }}
          catch (error) {{ return error instanceof SqzError ? error.code : String(error); }}
        }};
        const good = await readFile({json.dumps(str(model))});
        const damaged = await readFile({json.dumps(str(tmp_path / "damaged.sqz"))});
        const model = await load(good);
        const data = new Uint8Array(16);
        say([
          await code(() => load(damaged)),
          await code(() => load(good.subarray(0, 50))),
          await code(() => load(new TextEncoder().encode("<html>not a model</html>".repeat(9)))),
          await code(() => load(new Uint8Array())),
          await code(() => load(new URL("file:///nowhere/m.sqz"))),
          await code(() => load("http://127.0.0.1:9/m.sqz")),
          await code(() => load(good, {{ build: "fast" }})),
          await code(() => load(good, {{ threads: 0 }})),
          await code(() => model.classify({{ data, width: 3, height: 2 }})),
          await code(() => model.classify({{ data, width: 0, height: 2 }})),
          await code(() => model.classify({{ data, width: 2 ** 15, height: 2 ** 15 }})),
          await code(() => model.classify("picture.jpg")),
          await code(() => model.classify({{ data, width: 2, height: 2 }})),
        ]);
        """,
        tmp_path,
    )
    assert found == [
        *("CHECKSUM", "TRUNCATED", "UNKNOWN_FORMAT", "UNKNOWN_FORMAT", "NETWORK", "NETWORK"),
        *("WRONG_USE", "WRONG_USE", "WRONG_USE", "WRONG_USE", "TOO_LARGE", "WRONG_USE", "none"),
    ]


def test_threads_give_the_logits_of_one(tmp_path: Path) -> None:
    """While they start, while they compute, and after they have been ended."""
    models = [tmp_path / f"{seed}.sqz" for seed in range(6)]
    for seed, path in enumerate(models):
        path.write_bytes(encode(random_network(seed)))
    found = run_node(
        f"""
        const noise = Uint8Array.from({{ length: 4 * 61 * 50 }}, (_, i) => (i * i * 37) >> 5);
        const picture = {{ data: noise, width: 61, height: 50 }};
        const found = [];
        for (const path of {json.dumps([str(path) for path in models])}) {{
          const bytes = await readFile(path);
          const build = supportedBuilds().find((each) => each.endsWith("-threads"));
          const all = [];
          for (const options of [{{}}, {{ build, threads: 2 }}, {{ build, threads: 99 }}]) {{
            const model = await load(bytes, options);
            const threads = model.threads;
            for (let i = 0; i < 40; i++) {{
              model.classifyPixels(picture);
              all.push(model.logits().join());
              if (i === 10) await new Promise((done) => setTimeout(done, 100));
              if (i === 30) model.close();
            }}
            all.push([threads, model.threads, model.build.endsWith("-threads")].join());
          }}
          found.push([...new Set(all)]);
        }}
        say(found);
        """,
        tmp_path,
    )
    for distinct in found:
        logits, *threads = distinct
        assert logits.count(",") > 1
        assert threads == ["1,1,false", "2,1,true", "8,1,true"]


@pytest.mark.slow
def test_a_thread_that_dies_in_its_work_is_an_error(tmp_path: Path) -> None:
    """And one that never begins is none. Without a stack, a thread dies in its first task."""
    (tmp_path / "m.sqz").write_bytes(Classifier()._data)  # large enough that it gets a task
    found = run_node(
        f"""
        import {{ Worker }} from "node:worker_threads";
        import {{ inflateSync }} from "node:zlib";
        const web = {json.dumps(str(WEB))};
        const module = await WebAssembly.compile(
          inflateSync(await readFile(`${{web}}/sqz-simd-threads.wasm.zlib`)));
        const memory = new WebAssembly.Memory({{ initial: 8, maximum: 8192, shared: true }});
        const {{ exports }} = await WebAssembly.instantiate(module, {{ env: {{ memory }} }});
        const bytes = await readFile({json.dumps(str(tmp_path / "m.sqz"))});
        exports.set_threads(2);
        const at = exports.reserve(bytes.length);
        new Uint8Array(memory.buffer).set(bytes, at);
        const errors = [exports.load(bytes.length, 0)];
        exports.picture(40, 50);
        errors.push(exports.classify(1));
        const worker = new Worker(`${{web}}/sqz-thread.js`, {{
          workerData: {{ module, memory, stack: 0 }},
        }});
        let died = false;
        worker.on("error", () => (died = true));
        for (let error = 0; !error && !died; await new Promise((done) => setTimeout(done, 1))) {{
          error = exports.classify(1);
          if (error) errors.push(error, exports.classify(1));
        }}
        say(errors);
        """,
        tmp_path,
    )
    assert found == [0, 0, -2, -2]


def test_the_package_has_the_version_of_this_one() -> None:
    assert json.loads((WEB / "package.json").read_text())["version"] == __version__


@pytest.mark.slow
def test_the_npm_package(tmp_path: Path, model: Path) -> None:
    """``npm pack`` builds it, and a project that installs it classifies and is type-checked."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, and there is none in the path")
    sources = shutil.copytree(WEB, tmp_path / "web")
    subprocess.run(["npm", "pack", "--pack-destination", tmp_path], cwd=sources, check=True)
    [archive] = tmp_path.glob("sqznet-*.tgz")
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"type": "module"}')
    install = ["npm", "install", "--no-audit", "--no-fund", archive, "typescript"]
    subprocess.run(install, cwd=project, check=True)
    (project / "main.ts").write_text(
        'import { load, type Result } from "sqznet";\n'
        "const model = await load(new URL(process.argv[2]!));\n"
        "const data = new Uint8Array(4 * 30 * 20).fill(200);\n"
        "const pixels = { data, width: 30, height: 20 };\n"
        "const result: Result = await model.classify(pixels, { top: 1 });\n"
        "console.log(result.predictions[0]!.label);\n"
    )
    options = ["--module", "nodenext", "--target", "es2022", "--strict", "--lib", "es2022,dom"]
    (project / "globals.d.ts").write_text("declare const process: { argv: string[] };\n")
    compile_ = ["npx", "tsc", *options, "main.ts", "globals.d.ts"]
    done = subprocess.run(compile_, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    told = subprocess.run(
        [NODE, "main.js", model.as_uri()], cwd=project, check=True, capture_output=True, text=True
    ).stdout
    grey = np.full((20, 30, 3), 200, np.uint8)
    assert told.strip() == Classifier(model)(grey)[0].label
