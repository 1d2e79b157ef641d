"""The readers that are fuzzed: what each is given, what it does, and what it may cost.

For any bytes a target reads them rightly, or raises a ``SqueezeNetError``; see ``contract``. What
was read is used as a command would use it, so that nothing half checked gets through.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from squeezenet.arch.graph import build_graph
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import decode, encode
from squeezenet.codec.han import decode_net
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.rate_distortion.checkpoint import load_checkpoint, load_curvatures
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.work_folder import read_densities, read_whole
from squeezenet.errors import SqueezeNetError
from squeezenet.images.decode import FORMATS, Pixels, read_image, rgb_from_pillow, to_pixels
from squeezenet.images.limits import ImageLimits
from squeezenet.model.foreign import load_pth
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.onnx_file import load_onnx
from squeezenet.model.safetensors_file import load_safetensors
from squeezenet.report.write import read_metrics
from squeezenet.sealed_files import sealed_line, write_sealed, write_sealed_json
from squeezenet.train.checkpoint import load_latest
from squeezenet.train.run_folder import RunFolder
from tests.fuzz import mutate, seeds
from tests.fuzz.contract import Broken, Lines, check_input
from tests.train.small import quick, quick_run

MEGABYTE = 1 << 20
LIMITS = ImageLimits(max_memory=64 * MEGABYTE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader.

    ``read`` is given the bytes, a folder to write in, and the progress of the call.
    ``max_memory``: bytes of the process above what was in use before.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path, Lines], object]
    mutate: mutate.Mutator
    max_memory: int

    def check(self, data: bytes, folder: Path) -> str:
        """Read ``data``; return "read" or the name of the error.

        Raises:
            Broken, and whatever else the reader should not raise.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return check_input(lambda log: self.read(data, folder, log), folder, self.max_memory)


def _picture(data: bytes, folder: Path, log: Lines) -> None:
    """Read pixels, in full and smaller; through Pillow's own object they are the same."""
    path = folder / "picture"
    path.write_bytes(data)
    pixels_HWC = read_image(path, limits=LIMITS)
    if pixels_HWC.dtype != np.uint8 or pixels_HWC.ndim != 3 or pixels_HWC.shape[2] != 3:
        raise Broken(f"pixels of {pixels_HWC.dtype} {pixels_HWC.shape}")
    again = _by_pillow(data)
    if again is not None and not np.array_equal(pixels_HWC, again):
        raise Broken("pixels of a path and of Pillow's image differ")
    smaller_HWC = read_image(path, limits=LIMITS, min_side=8)
    if (
        min(smaller_HWC.shape[:2]) < min(*pixels_HWC.shape[:2], 8)
        or smaller_HWC.size > pixels_HWC.size
    ):
        raise Broken(f"pixels of {pixels_HWC.shape} became {smaller_HWC.shape}")


def _by_pillow(data: bytes) -> Pixels | None:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return to_pixels(rgb_from_pillow(image, limits=LIMITS))
    except Exception:  # whatever Image.open raises, and a JPEG without its end marker
        return None


def _pth(data: bytes, folder: Path, log: Lines) -> None:
    path = folder / "x.pth"
    path.write_bytes(data)
    try:
        _require_model(load_pth(path, progress=log))
    except SqueezeNetError as error:
        log.lines.append(str(error))
    _require_model(load_pth(path, seeds.TINY, progress=log))


def _safetensors(data: bytes, folder: Path, log: Lines) -> None:
    path = folder / "x.safetensors"
    path.write_bytes(data)
    _require_model(load_safetensors(path, seeds.TINY, progress=log))


def _onnx(data: bytes, folder: Path, log: Lines) -> None:
    path = folder / "x.onnx"
    path.write_bytes(data)
    _require_model(load_onnx(path))


def _require_model(model: LoadedModel) -> None:
    """Its weights are finite, and it runs."""
    spec = model.record.spec
    if not all(bool(torch.isfinite(t).all()) for t in model.module.state_dict().values()):
        raise Broken("weights that are not finite")
    if len(model.record.class_names) != spec.num_classes:
        raise Broken("another number of class names than outputs")
    model.record.to_json()


def _net(data: bytes, folder: Path, log: Lines) -> None:
    model = decode_net(data, str(folder / "x.net"))
    for layer in model.layers:
        if not np.isfinite(layer.weights.dequantize()).all():
            raise Broken(f"{layer.name}: weights that are not finite")


def _run_folder(data: bytes, folder: Path, log: Lines) -> None:
    """Go on with a run of which one file was replaced.

    The first byte chooses the file; the second whether it gets a right checksum (bit 0), whether
    the run was finished (bit 1), whether it is trained longer (bit 2), and whether the files are
    only read, which is ten times as fast (bit 3).
    """
    if len(data) < 2:
        return
    name, flags = seeds.RUN_FILES[data[0] % len(seeds.RUN_FILES)], data[1]
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    for each, content in seeds.run_folder().items():
        (run / each).parent.mkdir(parents=True, exist_ok=True)
        (run / each).write_bytes(content)
    if not flags & 2:
        (run / "result.json").unlink()
    is_sealed = bool(flags & 1) and _write_sealed(run / name, data[2:])
    opened = RunFolder(run)
    _ = opened.is_damaged, opened.known_data(), read_metrics(opened.metrics, log)
    if flags & 8:
        _ = opened.read_result(), load_latest(opened.checkpoints, log)
        _ = load_safetensors(opened.best), load_safetensors(opened.last), opened.check({})
        return
    quick_run(run, quick(epochs=3 if flags & 4 else 2), progress=log, keep_checkpoints=True)
    if not is_sealed and not flags & 4:
        found = (run / "last.safetensors").read_bytes()
        if found != seeds.run_folder()["last.safetensors"]:
            raise Broken(f"{name} is damaged, and the run ended with other weights")


def _write_sealed(path: Path, data: bytes) -> bool:
    """Write ``data`` with a right checksum, if the file has one of ours; else as it is."""
    if path.suffix == ".json":
        try:
            parsed = json.loads(data)
            if isinstance(parsed, dict):
                parsed.pop("sha256", None)
                write_sealed_json(path, parsed)
                return True
        except (ValueError, RecursionError):
            pass
    elif path.suffix == ".jsonl":
        path.write_text("".join(_sealed(line) for line in data.split(b"\n")), encoding="utf-8")
        return True
    elif path.suffix in (".pt", ".npz", ".fingerprint"):
        write_sealed(path, lambda file: file.write(data))
        return True
    path.write_bytes(data)
    return path.suffix == ".safetensors"  # they may have been signed by the mutator


def _sealed(line: bytes) -> str:
    try:
        values = json.loads(line)
        if isinstance(values, dict):
            values.pop("crc32", None)
            return sealed_line(values)
    except (ValueError, RecursionError):
        pass
    return line.decode("utf-8", "replace") + "\n"


@cache
def _work_model() -> tuple[ModelRecord, dict[str, tuple[np.ndarray, np.ndarray]]]:
    spec = dataclasses.replace(preset(seeds.TINY), batch_norm=False)
    record = ModelRecord(
        spec=spec,
        preprocessing=default_preprocessing(spec),
        class_names=tuple(f"c{i}" for i in range(spec.num_classes)),
    )
    rng = np.random.default_rng(0)
    return record, {
        conv.name: (
            rng.normal(size=conv.weight_shape).astype(np.float32),
            rng.normal(size=conv.out_channels).astype(np.float32),
        )
        for conv in build_graph(spec).convs
    }


def _work_folder(data: bytes, folder: Path, log: Lines) -> None:
    """Read a work file of ``compress`` and use it: it is right, or computed again.

    The first byte chooses the file, the second whether it gets a right checksum.
    """
    if len(data) < 2:
        return
    name = seeds.WORK_FILES[data[0] % len(seeds.WORK_FILES)]
    path = folder / name
    if not (data[1] & 1 and _write_sealed(path, data[2:])):
        path.write_bytes(data[2:])
    record, weights = _work_model()
    graph = build_graph(record.spec)
    if name == "network.npz":
        checkpoint = read_whole(path, lambda file: load_checkpoint(file, graph), log)
        if checkpoint is not None:
            layers = checkpoint.network.layers()
            model = CompressedModel(
                record=record, layers=layers, activations=checkpoint.activations
            )
            decode(encode(model), "work file")
    elif name == "curvature.npz":
        curvatures = read_whole(path, lambda file: load_curvatures(file, graph), log)
        if curvatures is not None:
            LevelSearch(graph, weights, curvatures)
    else:
        for value in read_densities(path, log).values():
            if not 0 < value <= 1:
                raise Broken(f"a density of {value}")


def _one_of(files: dict[str, bytes], flags: tuple[int, ...]) -> list[bytes]:
    return [
        bytes([i, flag]) + content for i, content in enumerate(files.values()) for flag in flags
    ]


def net_counts(file: bytes, rng: random.Random, change: mutate.Change) -> bytes:
    """Change a layer of Han's format, with right counts; or plain bytes."""
    if rng.random() < 0.3 or len(file) < 104:
        return change(file)
    counts = np.frombuffer(file[:104], "<u4").tolist()
    layers, place = [], 104
    for conv, n in zip(build_graph(preset("squeezenet1_0")).convs, counts, strict=True):
        parts = []
        for size in (1024, 4 * conv.out_channels, n, (n + 1) // 2):
            parts.append(file[place : place + size])
            place += size
        layers.append(parts)
    parts = layers[rng.randrange(26)]
    i = rng.randrange(4)
    if i >= 2:  # another number of entries
        n = rng.choice((1, 2, 3, 5, 64, 1000, 1728))
        parts[2:] = [rng.randbytes(n), rng.randbytes((n + 1) // 2)]
    else:
        parts[i] = change(parts[i]).ljust(len(parts[i]), b"\0")[: len(parts[i])]
    return seeds.net_file([(a, b, c, d) for a, b, c, d in layers])


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="pictures",
            seeds=seeds.pictures,
            read=_picture,
            mutate=mutate.picture,
            max_memory=2 * LIMITS.max_memory,
        ),
        Target(
            name="pth",
            seeds=seeds.torch_files,
            read=_pth,
            mutate=mutate.archive,
            max_memory=128 * MEGABYTE,
        ),
        Target(
            name="safetensors",
            seeds=seeds.safetensors_files,
            read=_safetensors,
            mutate=mutate.safetensors,
            max_memory=128 * MEGABYTE,
        ),
        Target(
            name="onnx",
            seeds=seeds.onnx_files,
            read=_onnx,
            mutate=mutate.onnx,
            max_memory=128 * MEGABYTE,
        ),
        Target(
            name="net",
            seeds=seeds.net_files,
            read=_net,
            mutate=net_counts,
            max_memory=128 * MEGABYTE,
        ),
        Target(
            name="run-folder",
            seeds=lambda: _one_of(seeds.run_folder(), (1, 3, 5, 9)),
            read=_run_folder,
            mutate=mutate.choice_and(
                (mutate.json_text, mutate.json_text, mutate.lines, mutate.archive, mutate.archive,
                 mutate.safetensors, mutate.safetensors, mutate.bytes_alone)
            ),
            max_memory=256 * MEGABYTE,
        ),
        Target(
            name="work-folder",
            seeds=lambda: _one_of(seeds.work_folder(), (1,)),
            read=_work_folder,
            mutate=mutate.choice_and(
                (mutate.archive, mutate.archive, mutate.json_text, mutate.json_text)
            ),
            max_memory=128 * MEGABYTE,
        ),
    )
}  # fmt: skip
