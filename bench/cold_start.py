"""Time programs from the start of the process to the first label: for ``latency.py``.

Our C example, ``squeezenet predict``, and Python with each engine classify one photograph, in turns
A B A B.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from commands import compile_program
from latency_peers import SILENT, model_files, package_of, packages_folder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import squeezenet as squeezenet_package
from squeezenet.extras import DISTRIBUTION
from squeezenet.images.decode import read_image

_ROUNDS = 15
"""After one warm-up round: enough for a median with quartiles."""

_LAUNCHER = """
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Runs a program; prints seconds until it writes, its largest resident memory in KB, its text.
 * A small parent, since a process's largest memory counts what it was before exec. */
int main(int argc, char **argv) {
    char text[65536];
    int ends[2], status = argc;
    size_t size = 0;
    struct timespec start, first = {0, 0};
    struct rusage usage;
    if (pipe(ends)) return 2;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], text + size, sizeof text - 1 - size)) > 0; size += got)
        if (size == 0) clock_gettime(CLOCK_MONOTONIC, &first);
    text[size] = 0;
    wait4(child, &status, 0, &usage);
    double seconds = first.tv_sec - start.tv_sec + (first.tv_nsec - start.tv_nsec) / 1e9;
    printf("%.6f %ld %s\\n", seconds, usage.ru_maxrss, text);
    return status != 0 || size == 0;
}
"""

_PICTURE_TO_INPUT = """
import os, sys
import numpy as np
from PIL import Image
model, picture, labels = sys.argv[1:]
image = Image.open(picture).convert("RGB")
short = min(image.size)
image = image.resize([round(side * {resize} / short) for side in image.size], Image.BILINEAR)
left, top = [(side - crop) // 2 for side, crop in zip(image.size, {crop})]
image = image.crop((left, top, left + {crop}[0], top + {crop}[1]))
pixels = np.asarray(image, np.float32)[..., ::{step}]
x = ((pixels - np.float32({mean})) / np.float32({std})).transpose(2, 0, 1)[None]
"""
_LABEL = """
print(open(labels).read().split("\\n")[int(np.argmax(logits))], flush=True)
"""
_SCRIPTS = {
    "ONNX Runtime int8": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
optimised = model + ".optimised.onnx"
if os.path.exists(optimised):
    model = optimised
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
else:
    options.optimized_model_filepath = optimised
logits = onnxruntime.InferenceSession(model, options).run(None, {"input": x})[0]
""",
    "OpenVINO int8": """
import openvino
core = openvino.Core()
core.set_property({"CACHE_DIR": os.path.join(os.path.dirname(model), "cache")})
logits = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})(x)[0]
""",
}
"""The peers' programs: decode, resize, crop, run, print the label. From the second run on they load
what the first one saved, an optimised file or compiled kernels, as a product would."""


def start_programs(
    python: Path, model: Path, peers: Path, engines: dict[str, Any], shared: Path, work: Path
) -> dict[str, Any]:
    """Time programs from their start to the first label, in turns, and print a table.

    ``python`` is the interpreter of the peers' environment; ``engines`` are the engines that
    ``latency.py`` timed.
    """
    source = work / "launcher.c"
    source.write_text(_LAUNCHER)
    launcher = compile_program(work / "launcher", source)
    picture = sorted((shared / "imagenet-val500").glob("*/*"))[0]
    programs = {
        program.name: program for program in _programs(python, model, peers, engines, picture, work)
    }
    runs: dict[str, list[tuple[float, int]]] = {name: [] for name in programs}
    outputs: dict[str, str] = {}
    for turn in range(-1, _ROUNDS):
        for name, program in programs.items():
            command = [str(launcher), *program.command]
            pipe = subprocess.PIPE
            done = subprocess.run(command, check=True, env=SILENT, stdout=pipe, text=True)
            seconds, kilobytes, outputs[name] = done.stdout[:-1].split(" ", 2)
            if turn >= 0:
                runs[name].append((float(seconds), int(kilobytes)))
    result: dict[str, Any] = {}
    print(f"\n{picture.name}, from the start of the process to the first label\n")
    print("| program | s | quartiles | MB resident | MB installed | model, bytes | label |")
    print("|---|--:|--:|--:|--:|--:|---|")
    for name, program in programs.items():
        low, middle, high = statistics.quantiles([seconds for seconds, _ in runs[name]], n=4)
        resident = statistics.median(kilobytes for _, kilobytes in runs[name]) * 1024
        print(
            f"| {name} | {middle:.3f} | {low:.3f} .. {high:.3f} | {resident / 1e6:.1f} | "
            f"{program.installed / 1e6:.1f} | {program.model:,} | {_label(outputs[name])} |"
        )
        result[name] = {
            "seconds": [seconds for seconds, _ in runs[name]],
            "resident_bytes": resident,
            "installed_bytes": program.installed,
            "model_bytes": program.model,
            "output": outputs[name],
        }
    return result


def _label(output: str) -> str:
    """Return the predicted label from a program's output: JSON, a table, or the first line."""
    if output.startswith("{"):
        return str(json.loads(output)["label"])
    first, *rest = output.splitlines()
    return re.split(r"\s{2,}", rest[0].strip())[1] if first.startswith(" image") else first


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Program:
    """A program to time; ``installed``: bytes of it and its packages, without Python itself."""

    name: str
    command: list[str]
    installed: int
    model: int


def _programs(
    python: Path, model: Path, peers: Path, engines: dict[str, Any], picture: Path, work: Path
) -> Iterator[_Program]:
    if model.suffix == ".sqz":
        ppm = work / "picture.ppm"
        Image.fromarray(read_image(picture)).save(ppm)
        runtime = Path(__file__).parents[1] / "runtime"
        sources = [*runtime.glob("src/sqz_*.c"), *runtime.glob("kernels/sqz_*.c")]
        program = compile_program(work / "classify", runtime / "examples" / "classify.c", *sources)
        yield _Program(
            name="C example, PPM",
            command=[str(program), str(model), str(ppm)],
            installed=program.stat().st_size,
            model=model.stat().st_size,
        )
    folders = [str(packages_folder(work / "env")), sysconfig.get_paths()["purelib"]]
    predict = [str(Path(sys.executable).with_name("squeezenet")), "predict", str(model)]
    for arguments in ([], ["--format", "jsonl"]):
        yield _Program(
            name=" ".join(["squeezenet predict", *arguments]),
            command=[*predict, str(picture), *arguments],
            installed=_installed([DISTRIBUTION], folders),
            model=model.stat().st_size,
        )
    built = json.loads((peers / "built.json").read_text())
    prep = built["preprocessing"]
    step = -1 if prep["channels"] == "BGR" else 1
    crop = prep["crop"][::-1]  # Pillow has the width first
    before = _PICTURE_TO_INPUT.format(**{**prep, "crop": crop, "step": step})
    labels = str(peers / "labels.txt")
    for engine, script in _SCRIPTS.items():
        if engine not in engines:
            continue
        package = package_of(engine)
        script_file = work / f"start_{package}.py"
        script_file.write_text(before + script + _LABEL)
        files = model_files(peers, engines[engine]["setting"])
        yield _Program(
            name=f"Python, {engine}",
            command=[str(python), str(script_file), str(files[0]), str(picture), labels],
            installed=_installed([package, "pillow"], folders),
            model=sum(file.stat().st_size for file in files),
        )


def _installed(names: list[str], folders: list[str]) -> int:
    """Return the bytes of packages and all their dependencies, without compiled bytecode."""
    found = {
        canonicalize_name(each.metadata["Name"]): each
        for each in reversed(list(metadata.distributions(path=folders)))
    }
    size, pending, seen = 0, [canonicalize_name(name) for name in names], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = found[name]
        files = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
        if name == DISTRIBUTION:  # may be an editable install
            files = [*Path(squeezenet_package.__file__).parent.rglob("*")]
        size += sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    return size
