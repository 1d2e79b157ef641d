"""The ONNX files of ``export`` beside our own clients: logits, predictions, accuracy, pixels.

    python bench/onnx_agreement.py FILE.sqz ../shared/data
    python bench/onnx_agreement.py FILE.sqz ../shared/data --sets imagenet-train1k --pictures 500

Exports the file with and without preprocessing and runs all graphs in ONNX Runtime on labelled
pictures of each set. FILE.sqz must be for integer clients. Int8 and exact are compared with the
integer client (``Classifier``, which equals the NumPy reference bit for bit), float32 with torch,
and the graphs with preprocessing with our own crops. Needs the extras ``train`` and ``dev``.

Legend: N images, H W C of the crop, K classes.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from commands import squeezenet

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.client import Classifier
from squeezenet.data.sources import open_evaluation_data
from squeezenet.evaluation.metrics import compare, score
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.export.onnx import EXACT_FILE, FLOAT_FILE, INT8_FILE
from squeezenet.images.decode import Pixels
from squeezenet.images.preprocess import crop_pixels, normalise
from squeezenet.model.load import load_model

Logits = npt.NDArray[np.float32]
_SETS = ["imagenet-val500", "imagenet-val643"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .sqz for integer clients")
    parser.add_argument("shared", type=Path, help="the folder with the sets")
    parser.add_argument("--sets", nargs="+", default=_SETS)
    parser.add_argument("--pictures", type=int, help="only so many of each set, evenly spread")
    options = parser.parse_args()
    print(f"{_processor()}; onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        squeezenet("export", options.model, "--to", "onnx", "--out", folder / "plain")
        inside = ["--preprocessing", "--out", folder / "inside"]
        squeezenet("export", options.model, "--to", "onnx", *inside)
        for each in options.sets:
            _report(options.model, options.shared / each, folder, options.pictures)


def _report(model: Path, pictures: Path, folder: Path, count: int | None) -> None:
    """Print a table of one set."""
    classifier, loaded = Classifier(model), load_model(model)
    prep = classifier.record.preprocessing
    images = open_evaluation_data(str(pictures), classifier.record, None)
    indices = np.arange(len(images))
    if count is not None:
        indices = indices[:: max(1, len(indices) // count)][:count]
    sessions = {
        (place, file): _session(folder / place / file, pixels=place == "inside")
        for place in ("plain", "inside")
        for file in (FLOAT_FILE, INT8_FILE, EXACT_FILE)
    }
    rows: dict[str, list[Logits]] = {}
    deviation = 0.0
    for index in indices:
        rgb_HWC = images.pixels(int(index))
        crop_NHWC = crop_pixels(rgb_HWC, prep)[None]
        x_NCHW = normalise(crop_NHWC, prep)
        found = {
            "integer client": classifier.logits(crop_NHWC),
            "torch float32": loaded.logits(x_NCHW),
        }
        for (place, file), run in sessions.items():
            logits, pixels = run(x_NCHW if place == "plain" else rgb_HWC[None])
            found[f"ONNX Runtime {file}, {place}"] = logits
            if pixels is not None:
                deviation = max(deviation, _pixel_deviation(pixels, crop_NHWC, prep))
        for name, logits in found.items():
            rows.setdefault(name, []).append(logits)
    print(f"\n{pictures.name}, {len(indices)} pictures\n")
    print(
        "| | top-1 | top-5 | against | same top-1 | KL, nats | top-1 difference | max abs logit |"
    )
    print("|---|--:|--:|---|--:|--:|--:|--:|")
    labelled = {
        name: LabelledLogits(
            logits_NK=np.concatenate(parts),
            labels=images.labels[indices],
            indices=indices,
            skipped=0,
        )
        for name, parts in rows.items()
    }
    for name, predicted in labelled.items():
        against = "torch float32" if "float32" in name else "integer client"
        measured, other = score(predicted), compare(predicted, labelled[against])
        largest = float(np.abs(predicted.logits_NK - labelled[against].logits_NK).max())
        print(
            f"| {name} | {measured.top1:.1f} | {measured.top5:.1f} | {against} | "
            f"{other.agreement:.1f}% | {other.kl:.5f} | {other.top1_difference:+.2f} ± "
            f"{other.top1_standard_error:.2f} | {largest:.1e} |"
        )
    print(f"\nlargest deviation of the graph's crops from ours: {deviation:.4f} pixel levels")


def _session(path: Path, *, pixels: bool) -> Callable[[Any], tuple[Logits, Logits | None]]:
    """Run a graph; with ``pixels`` also return its normalised input, an output that we add."""
    model = onnx.load(path)
    outputs = ["logits"]
    if pixels:
        outputs.append("input")
        kind = onnx.TensorProto.FLOAT
        model.graph.output.append(onnx.helper.make_tensor_value_info("input", kind, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads of several sessions would disturb each other
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    source = session.get_inputs()[0].name

    def run(x: Any) -> tuple[Logits, Logits | None]:
        logits, *rest = session.run(outputs, {source: x})
        return logits, rest[0] if rest else None

    return run


def _pixel_deviation(x_NCHW: Logits, crop_NHWC: Pixels, prep: Preprocessing) -> float:
    std, mean = (np.array(values).reshape(1, -1, 1, 1) for values in (prep.std, prep.mean))
    return float(np.abs(x_NCHW * std + mean - crop_NHWC.transpose(0, 3, 1, 2)).max())


def _processor() -> str:
    """Return the processor and those of its instructions that matter to int8."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor()
    facts = dict(
        line.split(":", 1)
        for line in cpuinfo.read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    wanted = ("avx2", "avx_vnni", "avx512_vnni", "asimddp")
    have = [
        name for name in wanted if name in facts.get("flags", facts.get("Features", "")).split()
    ]
    return f"{facts.get('model name', platform.machine())} ({', '.join(have)})"


if __name__ == "__main__":
    main()
