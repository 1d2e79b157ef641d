"""An exported folder of ONNX files in other engines and converters: do the logits agree?

    squeezenet export FILE.sqz --to onnx --out FOLDER
    python bench/onnx_engines.py FOLDER PICTURES --save expected.npz       (our environment)
    python bench/onnx_engines.py FOLDER PICTURES --load expected.npz       (the engines')

The first command writes normalised pictures and ONNX Runtime's float32 logits of them. The second
needs the packages that it is to try and not ours: onnxruntime, openvino, ncnn with pnnx (installed
with --no-deps), ai-edge-litert with onnx2tf. What is not installed is passed over. Prints a row per
engine and file: the largest difference of a logit from those, in percent of the largest logit, and
how many top-1 agree.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Run: TypeAlias = Callable[[Array], Array]
_PICTURES = 50
_PROGRAMS = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what export --to onnx wrote")
    parser.add_argument("pictures", type=Path, help="a folder of pictures")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--save", type=Path, help="write inputs and expected logits")
    where.add_argument("--load", type=Path, help="read them and try the engines")
    options = parser.parse_args()
    if options.save:
        _save(options.folder, options.pictures, options.save)
        return
    data = np.load(options.load)
    x_NCHW, expected = data["x"], data["logits"]
    print("| engine | file | largest difference, % | same top-1 |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as work:
        for engine, file, make in _engines(options.folder, Path(work), x_NCHW.shape):
            try:
                run = make()
            except (ImportError, FileNotFoundError) as error:
                print(f"| {engine} | {file} | not installed ({error}) | |")
                continue
            found = np.concatenate([run(x_NCHW[i : i + 1]) for i in range(len(x_NCHW))])
            difference = 100 * np.abs(found - expected).max() / np.abs(expected).max()
            same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            print(
                f"| {engine} | {file} | {difference:.4f} | {same} of {len(expected)} |", flush=True
            )


def _save(folder: Path, pictures: Path, path: Path) -> None:
    import onnx

    from squeezenet.arch.preprocessing import Preprocessing
    from squeezenet.images.decode import read_image
    from squeezenet.images.preprocess import crop_pixels, normalise

    metadata = {each.key: each.value for each in onnx.load(folder / "float32.onnx").metadata_props}
    values = json.loads(metadata["preprocessing"])
    prep = Preprocessing(
        resize=values["resize"],
        crop=tuple(values["crop"]),
        channels=values["channels"],
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
    )
    files = sorted(file for file in pictures.rglob("*") if file.is_file())
    chosen = files[:: max(1, len(files) // _PICTURES)][:_PICTURES]
    x_NCHW = normalise(np.stack([crop_pixels(read_image(file), prep) for file in chosen]), prep)
    run = _onnxruntime(folder / "float32.onnx")
    np.savez(path, x=x_NCHW, logits=np.concatenate([run(x[None]) for x in x_NCHW]))


def _engines(
    folder: Path, work: Path, shape: tuple[int, ...]
) -> Iterator[tuple[str, str, Callable[[], Run]]]:
    for file in ("float32.onnx", "int8.onnx", "exact.onnx"):
        if (folder / file).is_file():
            path = folder / file
            yield "ONNX Runtime", file, partial(_onnxruntime, path)
            yield "OpenVINO", file, partial(_openvino, path)
    float32 = folder / "float32.onnx"
    yield "ncnn, by pnnx", "float32.onnx", partial(_ncnn, float32, work, shape)
    yield "LiteRT, by onnx2tf", "float32.onnx", partial(_litert, float32, work)


def _onnxruntime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(["logits"], {"input": x})[0])


def _openvino(path: Path) -> Run:
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where the processor has it
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    return lambda x: np.asarray(compiled({"input": x})["logits"])


def _ncnn(path: Path, work: Path, shape: tuple[int, ...]) -> Run:
    import ncnn

    shutil.copy(path, work / "net.onnx")
    sides = ",".join(map(str, (1, *shape[1:])))
    spec = importlib.util.find_spec("pnnx")  # whose Python part needs torch
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pnnx")
    program = Path(spec.origin).with_name("pnnx")
    _call(program, "net.onnx", f"inputshape=[{sides}]", "fp16=0", cwd=work)
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(work / "net.ncnn.param"))
    net.load_model(str(work / "net.ncnn.bin"))

    def run(x: Array) -> Array:
        with net.create_extractor() as extractor:
            extractor.input(net.input_names()[0], ncnn.Mat(np.ascontiguousarray(x[0])))
            return np.array(extractor.extract(net.output_names()[0])[1]).reshape(1, -1)

    return run


def _litert(path: Path, work: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    shutil.copy(path, work / "net.onnx")
    _call(_PROGRAMS / "onnx2tf", "-i", "net.onnx", "-o", "tflite", cwd=work)
    model: Any = Interpreter(str(work / "tflite" / "net_float32.tflite"))
    model.allocate_tensors()
    source, target = model.get_input_details()[0], model.get_output_details()[0]

    def run(x: Array) -> Array:
        is_nhwc = source["shape"][-1] == x.shape[1]
        model.set_tensor(source["index"], x.transpose(0, 2, 3, 1) if is_nhwc else x)
        model.invoke()
        return np.asarray(model.get_tensor(target["index"]))

    return run


def _call(program: Path, *arguments: str, cwd: Path) -> None:
    """Run a converter; its output is dropped."""
    if not program.is_file():
        raise FileNotFoundError(program.name)
    path = f"{_PROGRAMS}{os.pathsep}{os.environ['PATH']}"  # onnx2tf calls others
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd, capture_output=True, text=True, env=os.environ | {"PATH": path},
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{program.name}: {done.stdout[-500:]}{done.stderr[-500:]}")


if __name__ == "__main__":
    main()
