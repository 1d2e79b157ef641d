"""Time of a training step from bytes, link and compute: a model, without any fitted constant.

DDP gathers gradients into buckets in the order in which the backward pass makes them, and sends a
bucket once it is full, while the pass goes on. A bucket of b bytes takes a ring all-reduce

    2 (N - 1) / N * b / rate  +  2 (N - 1) * latency,

the rate being that of the link less headers, or that of the machine without a limit, whichever is
less. Buckets follow each other on the link. A step ends after the last of them, or the pass:

    step = max(pass, last bucket) + optimiser + short messages + overhead.

The profile of the pass is measured by processes that do not talk to each other, as many at once.
Latency and the machine's own rate are those of bare all-reduces. ``overhead`` is what a step on
the network without limits takes longer than this: DDP's copies, the hook's arithmetic, and the two
fighting for cores. So the limited links are predicted from measurements without limits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

_HEADER_SHARE = 66 / 1514
"""Ethernet, IPv4 and TCP with timestamps, per packet. tbf counts them; the interface counts one
header per segment of up to 64 KiB, before it is cut into packets."""
_NUM_SHORT_MESSAGES = 3
_MIB = 2**20
_INT8_BYTES_PER_VALUE = 1 + 4 / 256
_MIN_POWERSGD_FACTOR = 2
_MESSAGES_PER_BUCKET = {"none": 1, "fp16": 1, "int8": 1, "powersgd": 3}
_WAITING_SHARE = {"int8": 0.5, "powersgd": 1.0}
"""Of the messages: int8 sends means after the pass, PowerSGD sends while the pass waits."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What N processes here do at once: all times in seconds.

    ``ready``: the shape of each gradient and when it is made, in order. ``step``: a whole step.
    ``latency``: of one hop. ``bytes_per_second``: of a bare all-reduce without limits.
    """

    ready: Sequence[tuple[Sequence[int], float]]
    step: float
    latency: float
    bytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """How gradients are averaged: the comm hook, PowerSGD's rank, DDP's bucket in MiB."""

    comm_hook: str = "none"
    powersgd_rank: int = 2
    bucket_mb: float = 1.0

    def payload(self, shape: Sequence[int]) -> float:
        """Return the bytes that one gradient becomes."""
        num_values = math.prod(shape)
        if self.comm_hook == "fp16":
            return 2 * num_values
        if self.comm_hook == "int8":
            return _INT8_BYTES_PER_VALUE * num_values
        if self.comm_hook == "powersgd":
            rows, columns = shape[0], num_values // shape[0]
            factors = (rows + columns) * min(rows, columns, self.powersgd_rank)
            return 4 * (factors if factors * _MIN_POWERSGD_FACTOR < num_values else num_values)
        return 4 * num_values

    def buckets(self, machine: Machine) -> list[tuple[float, float]]:
        """Return (time when it is full, bytes on the wire) of each of DDP's buckets."""
        buckets, size, payload = [], 0.0, 0.0
        for shape, time in machine.ready:
            size += 4 * math.prod(shape)
            payload += self.payload(shape)
            if size >= self.bucket_mb * _MIB:
                buckets.append((time, payload))
                size = payload = 0.0
        if size:
            buckets.append((machine.ready[-1][1], payload))
        return buckets


def sent_bytes(averaging: Averaging, machine: Machine, num_hosts: int) -> float:
    """Return the bytes that each host sends per step, without headers."""
    payload = sum(size for _, size in averaging.buckets(machine))
    return 2 * (num_hosts - 1) / num_hosts * payload


def step_seconds(
    machine: Machine,
    averaging: Averaging,
    num_hosts: int,
    mbit_per_s: float | None,
    overhead: float = 0.0,
) -> float:
    """Predict the time of a step."""
    rate = machine.bytes_per_second
    if mbit_per_s is not None:
        rate = min(rate, mbit_per_s * 1e6 / 8 * (1 - _HEADER_SHARE))
    hops = 2 * (num_hosts - 1)
    messages = _MESSAGES_PER_BUCKET[averaging.comm_hook]
    end = waited = 0.0
    for ready, size in averaging.buckets(machine):
        transfer = hops / num_hosts * size / rate + messages * hops * machine.latency
        waited += transfer * _WAITING_SHARE.get(averaging.comm_hook, 0)
        end = max(end, ready) + transfer * (1 - _WAITING_SHARE.get(averaging.comm_hook, 0))
    backward_end = machine.ready[-1][1]
    optimizer = machine.step - backward_end + waited
    short = _NUM_SHORT_MESSAGES * hops * machine.latency
    return max(backward_end, end) + optimizer + short + overhead


def faster(machine: Machine, factor: float) -> Machine:
    """Return a machine that computes this many times faster."""
    ready = [(shape, time / factor) for shape, time in machine.ready]
    return dataclasses.replace(machine, ready=ready, step=machine.step / factor)
