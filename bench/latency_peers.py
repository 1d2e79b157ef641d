"""The peers of ``latency.py``: their environment, their files of a network, how each is run.

    ENV/bin/python bench/latency_peers.py MODEL CALIBRATION PICTURES OUT

Writes one of our networks into the folder OUT as ONNX, quantised ONNX, OpenVINO int8 and ncnn
files, calibrated on pictures of CALIBRATION, and float32 logits of PICTURES to compare with. ONNX
and ncnn files are written from the graph: both are lists of operations, as ours is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import squeezenet
from squeezenet.arch.counts import count
from squeezenet.arch.graph import (
    Add,
    Conv,
    GlobalAveragePool,
    Graph,
    MaxPool,
    build_graph,
    iter_reads,
)
from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.images.decode import Pixels, read_image
from squeezenet.images.preprocess import crop_pixels, normalise

Array: TypeAlias = npt.NDArray[np.float32]
Weights: TypeAlias = dict[str, tuple[Array, Array]]
Run: TypeAlias = Callable[[Array], Array]

VERSIONS = {
    "onnx": "1.23.2",
    "onnxruntime": "1.32.0",
    "openvino": "2026.4.1",
    "nncf": "3.4.0",
    "ncnn": "1.0.20261020",
}
SILENT = {**os.environ, "CI": "true"}
"""An environment in which OpenVINO sends no usage statistics."""
_PICTURES = 32
"""For calibration, and again for the comparison of logits."""
_CALIBRATED, _CHECKED = "calibration.npy", "checked.npz"

_QUANTISATIONS: dict[str, dict[str, Any]] = {
    f"{form} {activations}{weights}{', per channel' if channels else ''}{', 7 bits' * reduced}": {
        "form": form,
        "activations": activations,
        "weights": weights,
        "per_channel": channels,
        "reduce_range": reduced,
    }
    for form in ("QDQ", "QOperator")
    for activations, weights, channels, reduced in (
        ("u8", "s8", True, True),
        ("u8", "s8", False, True),
        ("u8", "s8", True, False),
        ("u8", "u8", False, False),
        ("s8", "s8", True, False),
    )
    if (form, activations) != ("QOperator", "s8")  # which ONNX Runtime refuses
}
"""ONNX Runtime's quantisation settings; of equally fast ones the most accurate comes first. With
7-bit weights, AVX2's 16-bit sums of two products cannot saturate."""


def package_of(engine: str) -> str:
    """Return the name of an engine's package: "onnxruntime" for "ONNX Runtime int8"."""
    return "".join(engine.lower().split()[:-1])


def make_environment(folder: Path) -> Path:
    """Create the peers' environment, once; it shares our package and its dependencies."""
    python = folder / "bin" / "python"
    ready = folder / "ready"
    wanted = "\n".join(f"{name}=={version}" for name, version in VERSIONS.items())
    if not ready.is_file() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        engines = [line for line in wanted.split("\n") if not line.startswith("nncf")]
        nncf_needs = ["psutil", "pydot", "ninja", "tabulate"]  # beside what is shared
        subprocess.run([*pip, f"numpy=={np.__version__}", *engines, *nncf_needs], check=True)
        subprocess.run([*pip, "--no-deps", f"nncf=={VERSIONS['nncf']}"], check=True)
        sources = Path(squeezenet.__file__).parents[1]
        borrowed = f"{sources}\n{sysconfig.get_paths()['purelib']}\n"
        (packages_folder(folder) / "borrowed.pth").write_text(borrowed)
        ready.write_text(wanted)
    return python


def packages_folder(environment: Path) -> Path:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return environment / "lib" / version / "site-packages"


def run_inside(python: Path, *arguments: object) -> None:
    """Run a program in the environment, with its output on stderr, as progress."""
    command = [str(python), *map(str, arguments)]
    subprocess.run(command, check=True, env=SILENT, stdout=sys.stderr)


def build(model: Path, python: Path, calibration: Path, pictures: Path, folder: Path) -> Path:
    """Write the peers' files of a model into a new folder, once per model and version of this
    program; return the folder."""
    made_of = model.read_bytes() + Path(__file__).read_bytes()
    digest = hashlib.sha256(made_of).hexdigest()[:12]
    out = folder / f"{model.stem}-{digest}"
    if not (out / "built.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        run_inside(python, __file__, model, calibration, pictures, out)
    return out


def _build(model: Path, calibration: Path, pictures: Path, out: Path) -> None:
    from squeezenet.model.load import load_model

    logging.disable(logging.WARNING)  # quantisers recommend to preprocess the model
    loaded = load_model(model)
    graph = build_graph(loaded.record.spec)
    state = loaded.module.state_dict()
    weights = {
        conv.name: (state[f"{conv.key}.weight"].numpy(), state[f"{conv.key}.bias"].numpy())
        for conv in graph.convs
    }
    prep = loaded.record.preprocessing
    calibrated = normalise(_read(calibration, prep), prep)
    np.save(out / _CALIBRATED, calibrated)
    pixels = _read(pictures, prep)
    x = normalise(pixels, prep)
    expected = loaded.logits(x)
    np.savez(out / _CHECKED, pixels=pixels, x=x, logits=expected)
    (out / "labels.txt").write_text("\n".join(loaded.record.class_names))

    float32 = out / "float32.onnx"
    _write_onnx(graph, weights, float32)
    found = np.concatenate([run_onnx(float32, 1)(image[None]) for image in x])
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if difference > 1e-4:
        raise SystemExit(f"{float32}: logits differ from ours by {difference:.1%} of the largest")
    for setting, options in _QUANTISATIONS.items():
        _quantise_onnx(float32, out / f"{setting}.onnx", calibrated, **options)
    for preset in ("performance", "mixed"):
        _quantise_openvino(float32, out / f"NNCF {preset}.xml", calibrated, preset)
    _write_ncnn(graph, weights, out / "float32.param")
    _write_ncnn(graph, weights, out / "int8.param", _largest(graph, float32, calibrated))
    facts = {
        "macs": count(graph).macs,
        "onnx_difference": difference,
        "weights": model.name,
        "preprocessing": {
            "resize": prep.resize, "crop": prep.crop, "channels": prep.channels,
            "mean": prep.mean, "std": prep.std,
        },
    }  # fmt: skip
    (out / "built.json").write_text(json.dumps(facts, indent=1))


def _read(folder: Path, prep: Preprocessing) -> Pixels:
    """Return some pictures of a folder, evenly spread, cropped: uint8 (N, H, W, C)."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    chosen = files[:: max(1, len(files) // _PICTURES)][:_PICTURES]
    return np.stack([crop_pixels(read_image(file), prep) for file in chosen])


def _write_onnx(graph: Graph, weights: Weights, path: Path) -> None:
    """Write the graph as ONNX: float32, NCHW, with normalised input."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []
    parts: dict[str, list[str]] = {}

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    for op in graph.operations:
        if isinstance(op, Conv):
            written = _written(graph, op)
            names = [f"{op.name}.weight", f"{op.name}.bias"]
            pairs = zip(weights[op.name], names, strict=True)
            constants += [numpy_helper.from_array(array, name) for array, name in pairs]
            add(
                "Conv", [op.source, *names], f"{written}.sum" if op.relu else written,
                kernel_shape=op.kernel, strides=[op.stride] * 2, pads=[op.padding] * 4,
                group=op.groups,
            )  # fmt: skip
            if op.relu:
                add("Relu", [f"{written}.sum"], written)
            if written != op.target:
                parts.setdefault(op.target, []).append(written)
                if _completes(graph, op):
                    add("Concat", parts[op.target], op.target, axis=1)
        elif isinstance(op, MaxPool):
            sides = {"kernel_shape": [op.kernel] * 2, "strides": [op.stride] * 2}
            ceil = int(_overhangs(graph, op))
            add("MaxPool", [op.source], op.target, ceil_mode=ceil, **sides)
        elif isinstance(op, Add):
            add("Add", [op.source, op.other], op.target)
        elif isinstance(op, GlobalAveragePool):
            add("GlobalAveragePool", [op.source], op.target)
        else:
            raise SystemExit(f"{op.name}: {type(op).__name__} is not supported here")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, t.channels, t.height, t.width])
        for name, t in ((name, graph.tensors[name]) for name in (graph.input, graph.output))
    ]
    onnx_graph = helper.make_graph(nodes, graph.spec.name, ends[:1], ends[1:], constants)
    # The oldest IR version with this opset, so that older engines can read the file.
    opset = helper.make_opsetid("", 17)
    made = helper.make_model(onnx_graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)


def _written(graph: Graph, conv: Conv) -> str:
    """Return the name of a convolution's output: its target, or its part of a concatenation."""
    is_all = conv.out_channels == graph.tensors[conv.target].channels
    return conv.target if is_all else conv.name


def _completes(graph: Graph, conv: Conv) -> bool:
    return conv.target_start + conv.out_channels == graph.tensors[conv.target].channels


def _overhangs(graph: Graph, pool: MaxPool) -> bool:
    """Whether windows overhang the right or lower edge, where they are clipped."""
    source, target = graph.tensors[pool.source], graph.tensors[pool.target]
    return any(
        (out - 1) * pool.stride + pool.kernel > side
        for out, side in ((target.height, source.height), (target.width, source.width))
    )


def _quantise_onnx(
    source: Path, path: Path, calibrated: Array, *, form: str, activations: str, weights: str,
    per_channel: bool, reduce_range: bool,
) -> None:  # fmt: skip
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(calibrated)

        def get_next(self) -> dict[str, Array] | None:
            x = next(self._left, None)
            return None if x is None else {"input": x[None]}

    types = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
    quantize_static(
        source, path, Pictures(), quant_format=QuantFormat[form],
        activation_type=types[activations], weight_type=types[weights],
        per_channel=per_channel, reduce_range=reduce_range,
    )  # fmt: skip


def _quantise_openvino(source: Path, path: Path, calibrated: Array, preset: str) -> None:
    import nncf
    import openvino

    quantised = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset([x[None] for x in calibrated]),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(calibrated),
    )
    openvino.save_model(quantised, path, compress_to_fp16=False)


def _largest(graph: Graph, float32: Path, calibrated: Array) -> dict[str, float]:
    """Return the largest magnitude of every tensor on the calibration pictures: ncnn's ranges."""
    import onnx
    import onnxruntime

    model = onnx.load(float32)
    names = [name for name in graph.tensors if name != graph.input]
    del model.graph.output[:]
    for name in names:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(info)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    largest = dict.fromkeys(names, 0.0) | {graph.input: float(np.abs(calibrated).max())}
    for x in calibrated:
        for name, value in zip(names, session.run(names, {"input": x[None]}), strict=True):
            largest[name] = max(largest[name], float(np.abs(value).max()))
    return largest


def _write_ncnn(
    graph: Graph, weights: Weights, path: Path, largest: dict[str, float] | None = None
) -> None:
    """Write ncnn's .param and .bin, in int8 if the tensors' ranges are given.

    As in ncnn's own ``ncnn2int8``, a tensor that only convolutions read stays in int8; all others
    are float32. ncnn needs a Split where a tensor has several readers.
    """
    readers: dict[str, list[Any]] = {}
    for op in graph.operations:
        for name in iter_reads(op):
            readers.setdefault(name, []).append(op)
    lines, blobs, data = [f"Input {graph.input} 0 1 {graph.input}"], {graph.input}, bytearray()
    parts: dict[str, list[str]] = {}
    copies: dict[str, Iterator[str]] = {}

    def add(kind: str, inputs: list[str], outputs: list[str], **numbers: int) -> None:
        blobs.update(outputs)
        name = f"{kind}_{outputs[0]}"
        values = [f"{key.lstrip('_')}={value}" for key, value in numbers.items()]
        counts = [str(len(inputs)), str(len(outputs))]
        lines.append(" ".join([kind, name, *counts, *inputs, *outputs, *values]))

    def take(name: str) -> str:
        return next(copies[name]) if name in copies else name

    for op in graph.operations:
        if isinstance(op, Conv):
            written = _written(graph, op)
            onward = readers.get(written, [])
            stays = bool(onward) and all(isinstance(reader, Conv) for reader in onward)
            term = 0 if largest is None else 102 if stays else 2
            add(
                "Convolution", [take(op.source)], [written], _0=op.out_channels, _1=op.kernel[1],
                _11=op.kernel[0], _3=op.stride, _4=op.padding, _5=1, _6=op.num_weights, _8=term,
                _9=int(op.relu),
            )  # fmt: skip
            ranges = None if largest is None else (largest[op.source], largest[op.target])
            data += _ncnn_weights(*weights[op.name], ranges, stays)
            if written != op.target:
                parts.setdefault(op.target, []).append(written)
                if not _completes(graph, op):
                    continue
                add("Concat", parts[op.target], [op.target], _0=0)
        elif isinstance(op, MaxPool):
            pad_mode = 0 if _overhangs(graph, op) else 1
            add(
                "Pooling",
                [take(op.source)],
                [op.target],
                _0=0,
                _1=op.kernel,
                _2=op.stride,
                _5=pad_mode,
            )
        elif isinstance(op, Add):
            add("BinaryOp", [take(op.source), take(op.other)], [op.target], _0=0)
        else:
            add("Pooling", [take(op.source)], [op.target], _0=1, _4=1)
        if len(readers.get(op.target, [])) > 1:
            names = [f"{op.target}.{i}" for i in range(len(readers[op.target]))]
            add("Split", [op.target], names)
            copies[op.target] = iter(names)
    path.write_text("\n".join(["7767517", f"{len(lines)} {len(blobs)}", *lines, ""]))
    path.with_suffix(".bin").write_bytes(data)


def _ncnn_weights(
    weight: Array, bias: Array, ranges: tuple[float, float] | None, stays: bool
) -> bytes:
    """Return one layer of a .bin: a tag, weights, bias. In int8 also the scales of weights and
    input, and of the output if that stays int8."""
    if ranges is None:
        return struct.pack("<I", 0) + weight.tobytes() + bias.tobytes()
    rows = weight.reshape(len(weight), -1)
    largest = np.abs(rows).max(1, keepdims=True)
    scale = (127 / np.where(largest > 0, largest, 1)).astype(np.float32)
    levels = np.rint(rows * scale).astype(np.int8).tobytes()
    ends = np.array([127 / value for value in ranges[: 1 + stays]], np.float32)
    padding = bytes(-len(levels) % 4)
    tag = struct.pack("<I", 0x000D4B38)
    return b"".join([tag, levels, padding, bias.tobytes(), scale.tobytes(), ends.tobytes()])


def checked(folder: Path) -> tuple[Pixels, Array, Array]:
    """Return pictures to run on: cropped pixels, normalised input, and our float32 logits."""
    with np.load(folder / _CHECKED) as arrays:
        return arrays["pixels"], arrays["x"], arrays["logits"]


def open_peers(folder: Path, threads: int) -> dict[str, dict[str, Callable[[], Run]]]:
    """Return, by engine and data type, then by setting, the function that opens the engine."""
    import openvino

    quantised = [folder / f"{setting}.onnx" for setting in _QUANTISATIONS]
    nncf = [folder / f"NNCF {preset}.xml" for preset in ("performance", "mixed")]
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    floats = ["f32", *(["bf16"] if "BF16" in capabilities else [])]
    float32 = folder / "float32.onnx"
    return {
        "ONNX Runtime float32": {"float32": partial(run_onnx, float32, threads)},
        "ONNX Runtime int8": {path.stem: partial(run_onnx, path, threads) for path in quantised},
        "OpenVINO float": {kind: partial(_run_openvino, float32, threads, kind) for kind in floats},
        "OpenVINO int8": {
            path.stem: partial(_run_openvino, path, threads, "f32")
            for path in [*nncf, quantised[0]]
        },
        "ncnn float32": {"float32": partial(_run_ncnn, folder / "float32.param", threads)},
        "ncnn int8": {"int8": partial(_run_ncnn, folder / "int8.param", threads)},
    }


def model_files(folder: Path, setting: str) -> list[Path]:
    """Return the files of a quantised setting; the first is the one that an engine opens."""
    files = [folder / f"{setting}{suffix}" for suffix in (".onnx", ".xml", ".bin")]
    return [file for file in files if file.is_file()]


def run_onnx(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x})[0].reshape(1, -1)


def _run_openvino(path: Path, threads: int, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(x: Array) -> Array:
        found = request.infer({0: x}, share_inputs=True, share_outputs=True)
        return np.array(found[0]).reshape(1, -1)

    return run


def _run_ncnn(path: Path, threads: int) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise SystemExit(f"{path}: ncnn does not read it")

    def run(x: Array) -> Array:
        extractor = net.create_extractor()
        extractor.input("input", ncnn.Mat(x[0]))
        return np.array(extractor.extract("logits")[1]).reshape(1, -1)

    return run


if __name__ == "__main__":
    _build(*map(Path, sys.argv[1:]))
