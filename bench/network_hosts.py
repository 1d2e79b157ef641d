"""Hosts on one machine: network namespaces joined by a switch, with links of a given speed.

    host0 eth0 --- port0 \
    host1 eth0 --- port1 -- bridge (a namespace of its own)
    ...

Each link is a veth pair, shaped in both directions by ``tc tbf``. A host has no other network.
Linux and root alone. What an earlier run left behind, however it ended, is removed at the start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PREFIX = "sqznet-bench-"
_SWITCH = _PREFIX + "switch"
_LOCK = Path("/run/sqznet-bench.lock")
_MTU_BYTES = 1500
_QUEUE_MS = 50
"""Longest time that a packet waits for a link; without netem a link adds no other delay."""
_BURST_BYTES = 128 * 1024
"""Two of the largest segments that TCP hands to an interface: 1 ms at 1 Gbit/s."""


class Network:
    """A number of hosts, named ``host0`` and so on, with addresses in 10.23.0.0/24."""

    def __init__(self, num_hosts: int) -> None:
        self.hosts = [f"{_PREFIX}host{index}" for index in range(num_hosts)]

    @staticmethod
    def address(index: int) -> str:
        return f"10.23.0.{index + 1}"

    def build(self) -> None:
        _ip("netns", "add", _SWITCH)
        _in(_SWITCH, "ip", "link", "add", "bridge", "type", "bridge")
        _in(_SWITCH, "ip", "link", "set", "bridge", "up")
        for index, host in enumerate(self.hosts):
            port = f"port{index}"
            _ip("netns", "add", host)
            _ip(
                "link", "add", "eth0", "mtu", str(_MTU_BYTES), "netns", host,
                "type", "veth", "peer", "name", port, "netns", _SWITCH,
            )  # fmt: skip
            _in(_SWITCH, "ip", "link", "set", port, "master", "bridge", "up")
            _in(host, "ip", "address", "add", f"{self.address(index)}/24", "dev", "eth0")
            _in(host, "ip", "link", "set", "eth0", "up")
            _in(host, "ip", "link", "set", "lo", "up")

    def shape(self, mbit_per_s: int | None) -> None:
        """Give every link this speed in each direction; None takes the limit away."""
        for index, host in enumerate(self.hosts):
            for namespace, interface in ((host, "eth0"), (_SWITCH, f"port{index}")):
                if mbit_per_s is None:
                    _in(namespace, "tc", "qdisc", "del", "dev", interface, "root", may_fail=True)
                else:
                    _in(
                        namespace, "tc", "qdisc", "replace", "dev", interface, "root", "tbf",
                        "rate", f"{mbit_per_s}mbit", "burst", str(_BURST_BYTES),
                        "latency", f"{_QUEUE_MS}ms",
                    )  # fmt: skip


@contextlib.contextmanager
def network(num_hosts: int) -> Iterator[Network]:
    """Build a network and remove it at the end, whatever happens."""
    require_root()
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another run has the hosts ({_LOCK} is locked); wait for its end")
        remove_leftovers()
        try:
            built = Network(num_hosts)
            built.build()
            yield built
        finally:
            remove_leftovers()


def require_root() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        sys.exit("network namespaces need Linux and root; start this as root")


def remove_leftovers() -> None:
    """End what runs in namespaces of ours, and remove them; the links go with them."""
    names = [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]
    for name in names:
        if name.startswith(_PREFIX):
            for pid in _ip("netns", "pids", name, may_fail=True).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "delete", name, may_fail=True)


class Job:
    """One process per host, which rank 0 leads: it reads commands and writes results as JSON."""

    def __init__(self, network: Network, program: Path, arguments: list[str], port: int) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (until __exit__)
        self._processes = [
            subprocess.Popen(
                ["ip", "netns", "exec", host, sys.executable, program, *arguments],
                stdin=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                stderr=self._errors,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
                env=os.environ
                | {
                    "RANK": str(rank),
                    "WORLD_SIZE": str(len(network.hosts)),
                    "MASTER_ADDR": network.address(0),
                    "MASTER_PORT": str(port),
                    "GLOO_SOCKET_IFNAME": "eth0",
                    "OMP_NUM_THREADS": "1",
                },
            )
            for rank, host in enumerate(network.hosts)
        ]

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Have all ranks do something and return what rank 0 found."""
        stdin, stdout = self._processes[0].stdin, self._processes[0].stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(command) + "\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            self._errors.seek(0)
            sys.exit(f"a rank has ended:\n{self._errors.read()[-4000:]}")
        result: dict[str, Any] = json.loads(line)
        return result

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *unused: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._errors.close()


def _ip(*arguments: str, may_fail: bool = False) -> str:
    return _run(["ip", *arguments], may_fail)


def _in(namespace: str, *command: str, may_fail: bool = False) -> str:
    return _run(["ip", "netns", "exec", namespace, *command], may_fail)


def _run(command: list[str], may_fail: bool) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
