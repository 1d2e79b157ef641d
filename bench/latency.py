"""How fast is our integer client beside the big engines, and how soon does each answer?

    python bench/latency.py ../shared/data --work latency

times SqueezeNet v1.0 (the authors' weights) and v1.1 (random weights) at 224 pixels, one picture
at a time, on one and two threads: ours from a ``.sqz``, ONNX Runtime, OpenVINO and ncnn from the
weights that the ``.sqz`` stands for, each engine in its fastest setting on this machine. All
contenders are in one process and take turns, A B A B. "error" is how far logits lie from float32's,
root mean square, in percent of the logits' own spread. Then whole programs: from the process's
start to the first label. The peers are installed into an environment of their own, WORK/env. A
second call goes on where the first was stopped; ``WORK/squeezenet1_0.sqz`` may be put there
beforehand, else it is compressed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from commands import squeezenet
from latency_peers import (
    SILENT,
    VERSIONS,
    Array,
    Run,
    build,
    checked,
    make_environment,
    model_files,
    open_peers,
    packages_folder,
    run_inside,
)
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import squeezenet as squeezenet_package
from squeezenet.images.decode import Pixels, read_image

NETWORKS = ("squeezenet1_0", "squeezenet1_1")
_OURS = "ours"
_SKIPPABLE = (_OURS, "onnxruntime", "openvino", "ncnn", "start")
_SIZE = (224, 224)
_INFERENCES, _WARM_UPS = 5, 3
_CHOOSING_TURNS = 8
_PAUSE = 0.003
"""Seconds before a contender's turn, for the threads of the one before to stop waiting busily."""
_TIE = 1.02
"""Settings within 2% of an engine's fastest count as equal; the first, most exact one is taken."""
_FLAGS = re.compile(r"avx\w*|fma|f16c|amx\w*|asimd\w*|i8mm|bf16|sve\w*")
_ROUNDS = 15

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
"""The peers' programs: decode, resize, crop, run, tell. From the second time on they load what
the first kept, an optimised file or compiled kernels, as a product would."""


def _ours(path: Path, threads: int) -> Callable[[Pixels], npt.NDArray[Any]]:
    from squeezenet.client import Classifier

    logits: Callable[[Pixels], npt.NDArray[Any]] = Classifier(path, threads=threads).logits
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with the file and the photographs")
    parser.add_argument("--work", type=Path, required=True, help="folder for files and results")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--turns", type=int, default=40, help="of each contender")
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=_SKIPPABLE, help="what to leave out"
    )
    parser.add_argument(
        "--classify", help="our C example for the start, as 'PROGRAM {model} {ppm}' or {picture}"
    )
    parser.add_argument("--save", action="store_true", help="write into bench/results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    python = make_environment(options.work / "env")
    machine = _machine()
    result: dict[str, Any] = {"machine": machine, "turns": options.turns, "networks": {}}
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    for name in options.networks:
        model, peers = _prepare(name, python, options)
        built = json.loads((peers / "built.json").read_text())
        measured: dict[str, Any] = {**built, "threads": {}}
        for threads in options.threads:
            race = _start_race(python, model, peers, threads, options)
            measured["threads"][threads] = race
            _print_race(f"{name}, {'x'.join(map(str, _crop(built)))}", threads, race, built["macs"])
        result["networks"][name] = measured
        if name == NETWORKS[0] and "start" not in options.skip:
            result["start"] = _start_programs(python, model, peers, race, options)
    if options.save:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        file = folder / f"latency-{machine['date']}-{_cpu_slug(machine['cpu'])}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {file}")


def _machine() -> dict[str, str]:
    """What the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    info = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    flags = [
        f for f in (info.get("flags") or info.get("Features", "")).split() if _FLAGS.fullmatch(f)
    ]
    model = info.get("model name", platform.machine())
    family = f"family {info.get('cpu family', '?')} model {info.get('model', '?')}"
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{model} {family}",
        "cores": str(len(os.sched_getaffinity(0))),
        "flags": " ".join(flags),
        "load": f"{os.getloadavg()[0]:.1f}",
        "commit": _said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "compiler": _said(*shlex.split(sysconfig.get_config_var("CC") or "cc"), "--version"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **VERSIONS,
    }


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0]


def _cpu_slug(cpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")


def _prepare(name: str, python: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Make a network's file and the peers' forms of the same weights."""
    weights = options.work / f"{name}.safetensors"
    if not weights.is_file():
        _write_weights(name, options.shared, weights)
    model = options.work / f"{name}.sqz"
    calibration = options.shared / "imagenet-train1k"
    if not model.is_file() and _OURS not in options.skip:
        squeezenet("compress", weights, "--calib", calibration, "--effort", "low", "--out", model)
    if not model.is_file():
        model = weights
    pictures = options.shared / "imagenet-val500"
    return model, build(model, python, calibration, pictures, options.work / "peers")


def _write_weights(name: str, shared: Path, out: Path) -> None:
    """The authors' weights for v1.0, He's random ones for v1.1, both at 224 pixels."""
    from squeezenet.arch.imagenet import imagenet_classes
    from squeezenet.arch.preprocessing import torchvision_preprocessing
    from squeezenet.arch.presets import preset
    from squeezenet.arch.record import ModelRecord
    from squeezenet.model.init import initialise
    from squeezenet.model.load import load_model
    from squeezenet.model.network import build_module
    from squeezenet.model.safetensors_file import save_safetensors

    if name == "squeezenet1_0":
        loaded = load_model(shared / "compressed_SqueezeNet.net")
        record, module = loaded.record, loaded.module
        record = dataclasses.replace(
            record,
            spec=dataclasses.replace(record.spec, input_size=_SIZE),
            preprocessing=dataclasses.replace(record.preprocessing, crop=_SIZE),
        )
    else:
        names, ids = imagenet_classes()
        record = ModelRecord(
            spec=preset(name),
            preprocessing=torchvision_preprocessing(),
            class_names=names,
            class_ids=ids,
        )
        module = build_module(record.spec)
        initialise(module, record.spec, "he", 0)
    save_safetensors(out, record, module.state_dict())


def _start_race(
    python: Path, model: Path, peers: Path, threads: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Race in a process of its own, in the environment of the peers."""
    out = options.work / f"race-{peers.name}-{threads}.json"
    plan = {
        "model": str(model), "peers": str(peers), "threads": threads, "turns": options.turns,
        "skip": options.skip, "out": str(out),
    }  # fmt: skip
    run_inside(python, __file__, "--race", json.dumps(plan))
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def time_contenders(plan: dict[str, Any]) -> None:
    """Time all contenders, turn by turn, on as many cores as they have threads."""
    threads, skipped = plan["threads"], plan["skip"]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads on {len(cores)} cores; see --threads")
    os.sched_setaffinity(0, cores[:threads])
    pixels, x, expected = checked(Path(plan["peers"]))
    engines: dict[str, dict[str, Any]] = {}
    work: dict[str, tuple[Callable[[Any], npt.NDArray[Any]], npt.NDArray[Any]]] = {}
    for engine, openers in open_peers(Path(plan["peers"]), threads).items():
        if _package(engine) not in skipped:
            setting, milliseconds, run = _fastest(openers, x[:1])
            engines[engine] = {"setting": setting, "settings_ms": milliseconds}
            work[engine] = run, x
    if _OURS not in skipped:
        engines[_OURS] = {"setting": Path(plan["model"]).name}
        work[_OURS] = _ours(Path(plan["model"]), threads), pixels
    for engine, (answer, images) in work.items():
        given = np.stack([np.ravel(answer(images[i : i + 1])) for i in range(len(images))])
        same = given.argmax(1) == expected.argmax(1)
        error = np.sqrt(np.mean((given - expected) ** 2)) / expected.std()
        engines[engine] |= {"agreement": 100 * float(same.mean()), "error": 100 * float(error)}
    contenders = {engine: partial(run, images[:1]) for engine, (run, images) in work.items()}
    times = _turns(contenders, plan["turns"])
    for engine, found in times.items():
        engines[engine]["turns_ms"] = [round(value, 4) for value in found]
    result = {"load": os.getloadavg()[0], "engines": engines}
    Path(plan["out"]).write_text(json.dumps(result))


def _package(engine: str) -> str:
    """The name of an engine's package: of "ONNX Runtime int8", "onnxruntime"."""
    return "".join(engine.lower().split()[:-1])


def _fastest(openers: dict[str, Callable[[], Run]], x: Array) -> tuple[str, dict[str, float], Run]:
    """An engine's fastest setting here, the best milliseconds of all, and how it is run."""
    opened = {setting: opener() for setting, opener in openers.items()}
    work = {setting: partial(run, x) for setting, run in opened.items()}
    times = _turns(work, _CHOOSING_TURNS)
    best = {setting: round(min(found), 4) for setting, found in times.items()}
    limit = _TIE * min(best.values())
    setting = next(setting for setting, found in best.items() if found <= limit)
    return setting, best, opened[setting]


def _turns(contenders: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Milliseconds of each contender, the median of a turn's inferences, turn by turn.

    Every turn begins with another contender, and each has one inference untimed, since the one
    before has left its own weights in the caches.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(-_WARM_UPS, turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            work = contenders[name]
            time.sleep(_PAUSE)
            work()
            found = []
            for _ in range(_INFERENCES):
                start = time.perf_counter()
                work()
                found.append(1000 * (time.perf_counter() - start))
            if turn >= 0:
                times[name].append(statistics.median(found))
    return times


def _crop(built: dict[str, Any]) -> list[int]:
    """Height and width of the input: 224 pixels, unless a ``.sqz`` was put there."""
    crop: list[int] = built["preprocessing"]["crop"]
    return crop


def _print_race(title: str, threads: int, race: dict[str, Any], macs: int) -> None:
    engines = race["engines"]
    ours = engines.get(_OURS)
    print(f"\n{title}, {macs / 1e9:.3f} G MAC, {threads} thread{'s' * (threads > 1)}", end="")
    print(f"; load of the machine {race['load']:.1f}, this included\n")
    columns = ["setting", "ms", "quartiles", "best", "G MAC/s", "ours / it"]
    columns += ["same answers, %", "error, %"]
    print(f"| | {' | '.join(columns)} |")
    print("|---|---|" + "--:|" * (len(columns) - 1))
    for engine, found in engines.items():
        low, middle, high = statistics.quantiles(found["turns_ms"], n=4)
        rate = macs / middle / 1e6
        ratio = "-"
        if ours:
            pairs = zip(ours["turns_ms"], found["turns_ms"], strict=True)
            ratio = f"{statistics.median(a / b for a, b in pairs):.2f}"
        print(
            f"| {engine} | {found['setting']} | {middle:.2f} | {low:.2f} .. {high:.2f} | "
            f"{min(found['turns_ms']):.2f} | {rate:.1f} | {ratio} | "
            f"{found['agreement']:.0f} | {found['error']:.1f} |",
            flush=True,
        )


def _start_programs(
    python: Path, model: Path, peers: Path, race: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Time whole programs from their start to the first label, in turns."""
    launcher = _compile_launcher(options.work)
    picture = sorted((options.shared / "imagenet-val500").glob("*/*"))[0]
    programs = {
        program.name: program for program in _programs(python, model, peers, race, picture, options)
    }
    runs: dict[str, list[tuple[float, int]]] = {name: [] for name in programs}
    answers: dict[str, str] = {}
    for turn in range(-1, _ROUNDS):
        for name, program in programs.items():
            command = [str(launcher), *program.command]
            pipe = subprocess.PIPE
            done = subprocess.run(command, check=True, env=SILENT, stdout=pipe, text=True)
            seconds, kilobytes, answers[name] = done.stdout[:-1].split(" ", 2)
            if turn >= 0:
                runs[name].append((float(seconds), int(kilobytes)))
    result: dict[str, Any] = {}
    print(f"\n{picture.name}, from the start of the process to the first label\n")
    print("| program | s | quartiles | MB resident | MB installed | model, bytes | answer |")
    print("|---|--:|--:|--:|--:|--:|---|")
    for name, program in programs.items():
        low, middle, high = statistics.quantiles([seconds for seconds, _ in runs[name]], n=4)
        resident = statistics.median(kilobytes for _, kilobytes in runs[name]) * 1024
        print(
            f"| {name} | {middle:.3f} | {low:.3f} .. {high:.3f} | {resident / 1e6:.1f} | "
            f"{program.installed / 1e6:.1f} | {program.model:,} | {_label(answers[name])} |"
        )
        result[name] = {
            "seconds": [seconds for seconds, _ in runs[name]],
            "resident_bytes": resident,
            "installed_bytes": program.installed,
            "model_bytes": program.model,
            "answer": answers[name],
        }
    return result


def _label(answer: str) -> str:
    """What a program calls the picture: in JSON, in a table, or in its first line."""
    if answer.startswith("{"):
        return str(json.loads(answer)["label"])
    first, *rest = answer.splitlines()
    return re.split(r"\s{2,}", rest[0].strip())[1] if first.startswith(" image") else first


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Program:
    """``installed`` bytes are those of the program and its packages, beside Python itself."""

    name: str
    command: list[str]
    installed: int
    model: int


def _programs(
    python: Path, model: Path, peers: Path, race: dict[str, Any], picture: Path,
    options: argparse.Namespace,
) -> Iterator[_Program]:  # fmt: skip
    ours = model if model.suffix == ".sqz" else options.shared / "compressed_SqueezeNet.net"
    if options.classify:
        ppm = options.work / "picture.ppm"
        Image.fromarray(read_image(picture)).save(ppm)
        names = {"model": ours, "picture": picture, "ppm": ppm}
        command = [part.format(**names) for part in shlex.split(options.classify)]
        size = Path(command[0]).stat().st_size
        kind = "PPM" if "{ppm}" in options.classify else picture.suffix
        yield _Program(
            name=f"C example, {kind}", command=command, installed=size, model=ours.stat().st_size
        )
    folders = [str(packages_folder(options.work / "env")), sysconfig.get_paths()["purelib"]]
    predict = [str(Path(sys.executable).with_name("squeezenet")), "predict", str(ours)]
    for arguments in ([], ["--format", "jsonl"]):  # options take the option parser
        yield _Program(
            name=" ".join(["squeezenet predict", *arguments]),
            command=[*predict, str(picture), *arguments],
            installed=_installed(["squeezenet"], folders),
            model=ours.stat().st_size,
        )
    built = json.loads((peers / "built.json").read_text())
    prep = built["preprocessing"]
    step = -1 if prep["channels"] == "BGR" else 1
    crop = _crop(built)[::-1]  # Pillow has the width first
    before = _PICTURE_TO_INPUT.format(**{**prep, "crop": crop, "step": step})
    labels = str(peers / "labels.txt")
    for engine, script in _SCRIPTS.items():
        if engine not in race["engines"]:
            continue
        package = _package(engine)
        script_file = options.work / f"start_{package}.py"
        script_file.write_text(before + script + _LABEL)
        files = model_files(peers, race["engines"][engine]["setting"])
        yield _Program(
            name=f"Python, {engine}",
            command=[str(python), str(script_file), str(files[0]), str(picture), labels],
            installed=_installed([package, "pillow"], folders),
            model=sum(file.stat().st_size for file in files),
        )


def _compile_launcher(work: Path) -> Path:
    source, program = work / "launcher.c", work / "launcher"
    source.write_text(_LAUNCHER)
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


def _installed(names: list[str], folders: list[str]) -> int:
    """Bytes of packages and of all that they require, without compiled bytecode."""
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
        if name == "squeezenet":  # perhaps installed as a link to its sources
            files = [*Path(squeezenet_package.__file__).parent.rglob("*")]
        size += sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    return size


if __name__ == "__main__":
    if sys.argv[1:2] == ["--race"]:
        time_contenders(json.loads(sys.argv[2]))
    else:
        main()
