"""Training over a network: bytes per step, step time and scaling efficiency, beside a model.

    python bench/distributed.py --json network.json --plot docs/images/network.png
    python bench/distributed.py --quick --json network.json
    python bench/distributed.py --from network.json --plot network.png

Needs Linux, root and the extra [train]. Two and four hosts are network namespaces on this machine,
joined by veth pairs and a bridge, with links of 1 Gbit/s and 100 Mbit/s (``tc tbf``). On each host
one process with one thread trains on images of 227 pixels in memory, by the project's own step.
Bytes are those that the interface of rank 0's host counts, short messages included. It counts
segments of up to 64 KiB; cut into packets of 1,500 bytes on a real link, all are 4% more.

Efficiency is the time of a step of as many processes that do not talk to each other, divided by
the time of the step: images per second of N machines, divided by N times those of one. The cores
are shared, so both are measured with the same number of processes, in turn.

Warm-up is three steps without limits. Then a step apart and one on each link take turns, so that
all see the same load of the machine, with a step of warm-up where other processes go on. Times and
bytes are medians over the turns. The prediction is ``distributed_model``'s, from measurements
without limits. Four to five minutes with --quick on two free cores; half an hour otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from distributed_model import Averaging, Machine, sent_bytes, step_seconds
from distributed_report import draw, print_report
from network_hosts import Job, Network, network

from squeezenet.train.distributed.gradients import GradientOptions

_WORKER = Path(__file__).with_name("distributed_worker.py")
_ARCHS = {"squeezenet1_0": 7, "alexnet": 3}
"""And the number of timed steps; a step of AlexNet takes up to half a minute."""
_QUICK_STEPS = {"squeezenet1_0": 5, "alexnet": 2}
_LINKS_MBIT = (None, 1000, 100)
_WARM_UP = 3
"""The hooks average whole gradients in the first two steps."""
_NUM_TINY, _NUM_LARGE, _LARGE_BYTES = 50, 4, 64 * 2**20
_FIRST_PORT = 29500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two hosts, fewer steps")
    parser.add_argument("--hosts", type=int, nargs="+", help="numbers of hosts (default: 2 4)")
    parser.add_argument("--archs", nargs="+", default=list(_ARCHS), choices=list(_ARCHS))
    parser.add_argument(
        "--hooks", nargs="+", default=["none", "fp16", "int8", "powersgd"], help="comm hooks"
    )
    parser.add_argument("--powersgd-rank", type=int, default=2)
    parser.add_argument("--bucket-mb", type=float, nargs="+", default=[GradientOptions().bucket_mb])
    parser.add_argument("--batch", type=int, default=8, help="images per host and step")
    parser.add_argument("--json", type=Path, help="keep the results here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    parser.add_argument(
        "--from", dest="earlier", type=Path, help="results to show; measure nothing"
    )
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    earlier = options.earlier
    results = json.loads(earlier.read_text()) if earlier else measure(options)
    print_report(results)
    if options.plot:
        draw(results, options.plot)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, keeping what is there so far after each combination."""
    results: dict[str, Any] = {"environment": environment(options), "rows": []}
    ports = itertools.count(_FIRST_PORT)
    for num_hosts in options.hosts or ([2] if options.quick else [2, 4]):
        with network(num_hosts) as net:
            for arch in options.archs:
                measure_network(options, net, arch, ports, results)
    results["environment"]["load_at_end"] = os.getloadavg()
    keep(results, options.json)
    return results


def measure_network(
    options: argparse.Namespace,
    net: Network,
    arch: str,
    ports: itertools.count[int],
    results: dict[str, Any],
) -> None:
    num_steps = (_QUICK_STEPS if options.quick else _ARCHS)[arch]
    common = ["--arch", arch, "--batch", str(options.batch)]
    net.shape(None)
    with Job(net, _WORKER, [*common, "--alone"], next(ports)) as alone:
        alone.ask({"do": "train", "warm_up": _WARM_UP, "steps": 1})
        tiny = alone.ask({"do": "all_reduce", "num_bytes": 8, "times": _NUM_TINY})
        large = alone.ask({"do": "all_reduce", "num_bytes": _LARGE_BYTES, "times": _NUM_LARGE})
        hops = 2 * (len(net.hosts) - 1)
        for hook, bucket_mb in itertools.product(options.hooks, options.bucket_mb):
            arguments = ["--comm-hook", hook, "--powersgd-rank", str(options.powersgd_rank)]
            arguments += ["--bucket-mb", str(bucket_mb)]
            averaging = Averaging(
                comm_hook=hook, powersgd_rank=options.powersgd_rank, bucket_mb=bucket_mb
            )
            with Job(net, _WORKER, [*common, *arguments], next(ports)) as job:
                job.ask({"do": "train", "warm_up": _WARM_UP, "steps": 1})
                apart, together = take_turns(net, alone, job, num_steps)
            typical = sorted(apart, key=lambda step: step["seconds"])[num_steps // 2]
            machine = Machine(
                ready=typical["ready"],
                step=median(step["seconds"][0] for step in apart),
                latency=median(tiny["seconds"]) / hops,
                bytes_per_second=hops / len(net.hosts) * _LARGE_BYTES / median(large["seconds"]),
            )
            results["environment"]["bfloat16"] = apart[0]["bfloat16"]
            results["rows"] += rows_of(arch, len(net.hosts), machine, averaging, together)
            keep(results, options.json)
            for row in results["rows"][-len(_LINKS_MBIT) :]:
                megabytes, limit = row["tx"] / 1e6, row["mbit"] or "no limit"
                print(
                    f"{arch}, {hook}, {bucket_mb:g} MiB, {len(net.hosts)} hosts, {limit}: "
                    f"{megabytes:.2f} MB, {row['seconds']:.2f} s of {machine.step:.2f} s",
                    file=sys.stderr,
                    flush=True,
                )


def take_turns(
    net: Network, alone: Job, job: Job, num_steps: int
) -> tuple[list[dict[str, Any]], dict[int | None, list[dict[str, Any]]]]:
    """Do a step apart and one on each link, many times; so all see the same load of the machine."""
    apart: list[dict[str, Any]] = []
    together: dict[int | None, list[dict[str, Any]]] = {mbit: [] for mbit in _LINKS_MBIT}
    step = {"do": "train", "warm_up": 0, "steps": 1}
    for _ in range(num_steps):
        net.shape(None)
        apart.append(alone.ask(step | {"warm_up": 1}))
        job.ask(step)  # to warm up: the other processes have had the caches
        for mbit, found in together.items():
            net.shape(mbit)
            found.append(job.ask(step))
    net.shape(None)
    return apart, together


def rows_of(
    arch: str,
    num_hosts: int,
    machine: Machine,
    averaging: Averaging,
    together: dict[int | None, list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Return what was measured on each link, and what is predicted from the one without limit."""
    rows, overhead = [], 0.0
    for mbit, steps in together.items():
        seconds = median(step["seconds"][0] for step in steps)
        predicted = step_seconds(machine, averaging, num_hosts, mbit, overhead)
        if mbit is None:
            overhead = seconds - predicted
        row = {
            "arch": arch, "hosts": num_hosts, "mbit": mbit,
            "averaging": dataclasses.asdict(averaging), "machine": dataclasses.asdict(machine),
            "rx": median(step["rx"] for step in steps),
            "tx": median(step["tx"] for step in steps),
            "predicted_tx": sent_bytes(averaging, machine, num_hosts),
            "step_seconds": [step["seconds"][0] for step in steps],
            "seconds": seconds, "efficiency": machine.step / seconds,
            "overhead": overhead, "predicted": predicted,
        }  # fmt: skip
        rows.append(row)
    return rows


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Say where and how this was measured."""
    cpu = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "images_per_host": options.batch,
        "quick": options.quick,
        "load_at_start": os.getloadavg(),
    }


def keep(results: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
