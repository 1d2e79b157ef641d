"""How fast is our integer client beside the big engines, in inference and from a cold start?

    python bench/latency.py ../shared/data --work latency

Times SqueezeNet v1.0 (the authors' weights, 227 pixels) and v1.1 (torchvision's, 224 pixels), one
picture at a time, on one and two threads. Ours runs a ``.sqz``. ONNX Runtime, OpenVINO and ncnn run
its dequantised weights, each in its fastest setting on this machine. All run in one process, in
turns A B A B. "error" is the root mean square difference of logits from float32's, in percent of
the logits' standard deviation. Then it times programs from the start of the process to the first
label.

The peers are installed into an environment of their own, WORK/env. A second call resumes. If
``WORK/squeezenet1_0.sqz`` exists it is used, else it is compressed.

``--kernels`` takes kernels of ours that are not the fastest. The variable ONEDNN_MAX_CPU_ISA (AVX2,
AVX512_CORE_VNNI) holds OpenVINO to an instruction set too; the others always take what they find.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cold_start import start_programs
from commands import compile_program, squeezenet
from latency_peers import (
    VERSIONS,
    Array,
    Run,
    build,
    checked,
    make_environment,
    open_peers,
    package_of,
    run_inside,
)

from squeezenet.images.decode import Pixels

_PUBLISHED = {
    "squeezenet1_0": "compressed_SqueezeNet.net",
    "squeezenet1_1": "squeezenet1_1-fp16.pth",
}
NETWORKS = tuple(_PUBLISHED)
_OURS = "ours"
_SKIPPABLE = (_OURS, "onnxruntime", "openvino", "ncnn", "start")
_INFERENCES, _WARM_UPS = 5, 3
"""Inferences per turn, of which the median counts; and turns that do not count."""
_CHOOSING_TURNS = 8
"""Turns in which an engine's fastest setting is chosen."""
_PAUSE = 0.003
"""Seconds before a turn, in which the threads of the engine before stop their busy waiting."""
_TIE = 1.02
"""Settings within 2% of an engine's fastest count as equal; the first is the most accurate."""
_FLAGS = re.compile(r"avx\w*|fma|f16c|amx\w*|asimd\w*|i8mm|bf16|sve\w*")


def _ours(
    path: Path, threads: int, kernels: str | None
) -> tuple[str, Callable[[Pixels], npt.NDArray[Any]]]:
    """Return the names of file and kernels, and the function."""
    from squeezenet.client import Classifier

    classifier = Classifier(path, threads=threads, kernels=kernels)
    return f"{path.name}, {classifier.kernels}", classifier.logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with the file and the photographs")
    parser.add_argument("--work", type=Path, required=True, help="folder for files and results")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--turns", type=int, default=40, help="turns of each engine")
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=_SKIPPABLE, help="what to leave out"
    )
    parser.add_argument("--kernels", help="ours, by name; see available_kernels()")
    parser.add_argument("--save", action="store_true", help="write into bench/results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    python = make_environment(options.work / "env")
    machine = _machine()
    result: dict[str, Any] = {"machine": machine, "turns": options.turns, "networks": {}}
    result["peak_g_macs"] = peak = _peak(options.work)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, rate in peak.items():
        print(f"{name}: peak of {rate:.0f} G MAC/s with bytes, on one core")
    sys.stdout.flush()
    for name in options.networks:
        model, peers = _prepare(name, python, options)
        built = json.loads((peers / "built.json").read_text())
        measured: dict[str, Any] = {**built, "threads": {}}
        for threads in options.threads:
            race = _start_race(python, model, peers, threads, options)
            measured["threads"][threads] = race
            size = "x".join(map(str, built["preprocessing"]["crop"]))
            _print_race(f"{name}, {size}", threads, race, built["macs"])
        result["networks"][name] = measured
        if name == NETWORKS[0] and "start" not in options.skip:
            result["start"] = start_programs(
                python, model, peers, race["engines"], options.shared, options.work
            )
    if options.save:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        file = folder / f"latency-{machine['date']}-{_cpu_slug(machine['cpu'])}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {file}")


def _machine() -> dict[str, str]:
    """Return hardware, compiler, versions and commit."""
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
        "commit": _output_of(
            "git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"
        ),
        "compiler": _output_of(*shlex.split(sysconfig.get_config_var("CC") or "cc"), "--version"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **VERSIONS,
    }


def _output_of(*command: str) -> str:
    """Return the first line of a command's output, or "unknown"."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0]


def _peak(work: Path) -> dict[str, float]:
    """Measure the peak of one core by each instruction set, in G MAC/s; see ``peak.c``."""
    program = compile_program(work / "peak", Path(__file__).with_name("peak.c"))
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {
        name: float(rate) for name, rate in (line.rsplit(" ", 1) for line in lines.splitlines())
    }


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
    """Write the published weights as one kind of file."""
    from squeezenet.model.load import load_model
    from squeezenet.model.safetensors_file import save_safetensors

    loaded = load_model(shared / _PUBLISHED[name])
    save_safetensors(out, loaded.record, loaded.module.state_dict())


def _start_race(
    python: Path, model: Path, peers: Path, threads: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Time all engines in a new process, in the environment of the peers."""
    out = options.work / f"race-{peers.name}-{threads}.json"
    plan = {
        "model": str(model), "peers": str(peers), "threads": threads, "turns": options.turns,
        "skip": options.skip, "kernels": options.kernels, "out": str(out),
    }  # fmt: skip
    run_inside(python, __file__, "--race", json.dumps(plan))
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def time_contenders(plan: dict[str, Any]) -> None:
    """Time all engines, turn by turn, on as many cores as they have threads."""
    threads, skipped = plan["threads"], plan["skip"]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads on {len(cores)} cores; see --threads")
    os.sched_setaffinity(0, cores[:threads])
    pixels, x, expected = checked(Path(plan["peers"]))
    engines: dict[str, dict[str, Any]] = {}
    work: dict[str, tuple[Callable[[Any], npt.NDArray[Any]], npt.NDArray[Any]]] = {}
    for engine, openers in open_peers(Path(plan["peers"]), threads).items():
        if package_of(engine) not in skipped:
            setting, milliseconds, run = _fastest(openers, x[:1])
            engines[engine] = {"setting": setting, "settings_ms": milliseconds}
            work[engine] = run, x
    if _OURS not in skipped:
        setting, ours = _ours(Path(plan["model"]), threads, plan["kernels"])
        engines[_OURS] = {"setting": setting}
        work[_OURS] = ours, pixels
    for engine, (run, images) in work.items():
        logits = np.stack([np.ravel(run(images[i : i + 1])) for i in range(len(images))])
        same = logits.argmax(1) == expected.argmax(1)
        error = np.sqrt(np.mean((logits - expected) ** 2)) / expected.std()
        engines[engine] |= {"agreement": 100 * float(same.mean()), "error": 100 * float(error)}
    contenders = {engine: partial(run, images[:1]) for engine, (run, images) in work.items()}
    times = _turns(contenders, plan["turns"])
    for engine, found in times.items():
        engines[engine]["turns_ms"] = [round(value, 4) for value in found]
    result = {"load": os.getloadavg()[0], "engines": engines}
    Path(plan["out"]).write_text(json.dumps(result))


def _fastest(openers: dict[str, Callable[[], Run]], x: Array) -> tuple[str, dict[str, float], Run]:
    """Return an engine's fastest setting, the minimum milliseconds of all, and its function."""
    opened = {}
    for setting, opener in openers.items():
        try:
            opened[setting] = opener()
        except RuntimeError as error:  # OpenVINO held to AVX2 has no bf16
            print(f"{setting}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    work = {setting: partial(run, x) for setting, run in opened.items()}
    times = _turns(work, _CHOOSING_TURNS)
    best = {setting: round(min(found), 4) for setting, found in times.items()}
    limit = _TIE * min(best.values())
    setting = next(setting for setting, found in best.items() if found <= limit)
    return setting, best, opened[setting]


def _turns(contenders: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Return the milliseconds of each engine, turn by turn: the median of a turn's inferences.

    Every turn begins with another engine. Each engine has one untimed inference first, since the
    caches have the weights of the engine before.
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


def _print_race(title: str, threads: int, race: dict[str, Any], macs: int) -> None:
    engines = race["engines"]
    ours = engines.get(_OURS)
    print(f"\n{title}, {macs / 1e9:.3f} G MAC, {threads} thread{'s' * (threads > 1)}", end="")
    print(f"; load of the machine {race['load']:.1f}, this included\n")
    columns = ["setting", "ms", "quartiles", "best", "G MAC/s", "ours / it"]
    columns += ["agreement, %", "error, %"]
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


if __name__ == "__main__":
    if sys.argv[1:2] == ["--race"]:
        time_contenders(json.loads(sys.argv[2]))
    else:
        main()
