"""One rank of ``bench/distributed.py``: steps of training on images in memory, and bare messages.

Started on each host with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment. Rank 0
reads a command per line and answers with a line, both JSON; the other ranks follow it. A step is
that of ``train/fit.py``: three short messages, gradients averaged by DDP, the optimiser's step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional

from squeezenet.arch.presets import preset
from squeezenet.model.init import initialise
from squeezenet.model.network import build_module
from squeezenet.train.distributed.gradients import GradientOptions
from squeezenet.train.distributed.group import joined_ranks
from squeezenet.train.distributed.ranks import ONE_RANK, Ranks
from squeezenet.train.hardware import choose_hardware, keep_freed_memory
from squeezenet.train.recipe import recipe_named
from squeezenet.train.train_state import TrainState

_COUNTERS = Path("/sys/class/net/eth0/statistics")
_SIDE = 227
_LEARNING_RATE_FACTOR = 0.01
"""The images are noise: a low rate keeps the loss finite."""


class Worker:
    """A network in training on this rank; ``alone`` leaves out the average over ranks."""

    def __init__(self, options: argparse.Namespace, ranks: Ranks) -> None:
        spec = preset(options.arch, input_size=(_SIDE, _SIDE))
        module = build_module(spec)
        initialise(module, spec, "he", seed=0)
        recipe = recipe_named("paper")  # SGD with momentum, no batch normalisation
        self.ranks = ranks
        self.hardware = choose_hardware("cpu")
        self.state = TrainState(
            module,
            recipe,
            self.hardware,
            ranks=ONE_RANK if options.alone else ranks,
            gradients=GradientOptions(
                comm_hook=options.comm_hook,
                powersgd_rank=options.powersgd_rank,
                bucket_mb=options.bucket_mb,
            ),
        )
        generator = torch.Generator().manual_seed(ranks.rank)
        shape = (options.batch, 3, _SIDE, _SIDE)
        self.x_NCHW = torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
        self.labels = torch.randint(1000, (options.batch,), generator=generator)
        self.ready: list[tuple[tuple[int, ...], float]] = []
        self.started = 0.0
        if options.alone:
            for parameter in module.parameters():
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    self._note_ready
                )

    def train(self, warm_up: int, steps: int) -> dict[str, Any]:
        """Time steps, and count the bytes on this host's interface."""
        for _ in range(warm_up):
            self._step()
        self.ranks.sum([0.0])
        counted, seconds, profiles = counters(), [], []
        for _ in range(steps):
            self.ready = []
            self.started = time.perf_counter()
            self._step()
            seconds.append(time.perf_counter() - self.started)
            profiles.append(self.ready)
        after = counters()
        num_bytes = {key: (after[key] - counted[key]) / steps for key in counted}
        median = sorted(range(steps), key=seconds.__getitem__)[steps // 2]
        return {"seconds": seconds, "ready": profiles[median]} | num_bytes

    def all_reduce(self, num_bytes: int, times: int) -> dict[str, Any]:
        """Time bare all-reduces of a number of bytes."""
        tensor = torch.zeros(num_bytes // 4)
        self.ranks.sum([0.0])
        counted, seconds = counters(), []
        for _ in range(times):
            started = time.perf_counter()
            dist.all_reduce(tensor)
            seconds.append(time.perf_counter() - started)
        after = counters()
        moved = {key: (after[key] - counted[key]) / times for key in counted}
        return {"seconds": seconds} | moved

    def _step(self) -> None:
        ranks, state = self.ranks, self.state
        num_images, _ = ranks.sum([len(self.labels), 0])
        state.set_learning_rate_factor(_LEARNING_RATE_FACTOR)
        loss = state.compute_gradients(self.x_NCHW, self.labels, _loss, int(num_images))
        (loss,) = ranks.sum([loss])
        state.update(loss, None)
        state.step += 1
        ranks.sum([0.0, 0.0, 0.0])

    def _note_ready(self, parameter: torch.Tensor) -> None:
        self.ready.append((tuple(parameter.shape), time.perf_counter() - self.started))


def counters() -> dict[str, int]:
    """Return the bytes that this host has received and sent so far."""
    return {key: int((_COUNTERS / f"{key}_bytes").read_text()) for key in ("rx", "tx")}


def _loss(logits_NK: torch.Tensor, _: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits_NK, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", required=True)
    parser.add_argument("--comm-hook", default="none")
    parser.add_argument("--powersgd-rank", type=int, default=2)
    parser.add_argument("--bucket-mb", type=float, default=GradientOptions().bucket_mb)
    parser.add_argument("--batch", type=int, required=True, help="images per host")
    parser.add_argument("--alone", action="store_true", help="compute only, and all at once")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    with joined_ranks(torch.device("cpu")) as ranks:
        worker = Worker(options, ranks)
        while True:
            line = sys.stdin.readline() if ranks.is_main else ""
            command = ranks.broadcast(json.loads(line or '{"do": "end"}'))
            name = command.pop("do")
            if name == "end":
                return
            result = getattr(worker, name)(**command)
            if ranks.is_main:
                result["bfloat16"] = worker.hardware.bfloat16
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
