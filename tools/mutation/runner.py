"""Run pytest in forked processes, with a mutant or without.

The parent imports torch and the rest once, but nothing of squeezenet and none of its tests. A child
imports these itself, one module of them from the mutated text. So constants and class bodies are
mutated like all other code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plugin
import pytest
from mutants import PACKAGE, ROOT

HOOK = Path(__file__).parent / "hook"
MAX_MEMORY = 6 << 30
"""Bytes a child may hold: three times what the largest test takes."""
PATIENCE = 4
"""Times its limit that a test may take by the clock, where it does not compute."""
POLL_SECONDS = 0.02
# pytest would warn that it can no longer rewrite their asserts.
NOT_PRELOADED = ("squeezenet", "tests", "conftest", "hypothesis", "_hypothesis", "xdist", "execnet")


@dataclass
class Child:
    """A forked process that runs tests, and what it has said."""

    pid: int
    descriptor: int
    log: Path
    limit_of: Callable[[str], float]
    """Seconds a test may take; ``""`` stands for imports and collection."""
    scratch: Path
    started: float = field(default_factory=time.monotonic)
    messages: list[dict[str, Any]] = field(default_factory=list)
    ended_by: str | None = None
    """Why the parent killed it, if it did."""
    cpu_seconds: float = 0.0
    """Processor time it took, with that of the programs it started and waited for."""
    _rest: bytes = b""
    _test: str = ""
    _test_started: float = field(default_factory=time.monotonic)
    _test_cpu: float = 0.0

    def poll(self) -> int | None:
        """Read what it says, hold it to its limits; return its exit status when it has ended."""
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        self._read()
        if pid:
            self.cpu_seconds = used.ru_utime + used.ru_stime
            self.kill()  # whatever it has left running
            os.close(self.descriptor)
            shutil.rmtree(self.scratch, ignore_errors=True)
            return os.waitstatus_to_exitcode(status)
        if self.ended_by is None:
            limit = self.limit_of(self._test)
            waited = time.monotonic() - self._test_started
            worked = _cpu_seconds(self.pid) - self._test_cpu
            # A machine that others use too is no reason to call a test hung.
            if waited > limit and (worked > limit / 2 or waited > PATIENCE * limit):
                self.ended_by = f"time limit in {self._test or 'collection'}"
            elif _resident_bytes(self.pid) > MAX_MEMORY:
                self.ended_by = f"memory limit in {self._test or 'collection'}"
            if self.ended_by:
                self.kill()
        return None

    def kill(self) -> None:
        """Kill its whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.descriptor, 1 << 16):
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    self.messages.append(message)
                    if "start" in message or "end" in message:
                        self._test = message.get("start", "")
                        self._test_started = time.monotonic()
                        self._test_cpu = _cpu_seconds(self.pid)


def start(
    log: Path,
    files: Sequence[str],
    *,
    chosen: Sequence[str] | None = None,
    mutant: tuple[str, Path] | None = None,
    record: Path | None = None,
    limit_of: Callable[[str], float] = lambda test: float("inf"),
) -> Child:
    """Fork a process that runs tests.

    ``chosen``: names of tests of ``files``, in order; stop at the first failure. None: all tests.
    ``mutant``: the name of a module and the file of its mutated text.
    ``record``: the file of coverage's data, in a folder of its own; None: no coverage.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    scratch = Path(tempfile.mkdtemp(prefix="mutation-"))
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader, log, limit_of, scratch)
    code = 70
    try:
        os.setsid()
        os.close(reader)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = _run(log, files, chosen, mutant, record, plugin.sender(writer), scratch)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: Child) -> int:
    """Wait for a child; return its exit status."""
    try:
        while (status := child.poll()) is None:
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        stop(child)
        raise
    return status


def stop(child: Child) -> None:
    """Kill a child and wait for its end."""
    child.kill()
    while child.poll() is None:
        time.sleep(POLL_SECONDS)


def _run(
    log: Path,
    files: Sequence[str],
    chosen: Sequence[str] | None,
    mutant: tuple[str, Path] | None,
    record: Path | None,
    send: plugin.Send,
    scratch: Path,
) -> int:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HOOK), str(PACKAGE.parent)])
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:0] = [str(ROOT), str(PACKAGE.parent)]
    if mutant is not None:
        os.environ["SQUEEZENET_MUTANT"] = f"{mutant[0]}={mutant[1]}"
        runpy.run_path(str(HOOK / "sitecustomize.py"))
    plugins: list[Any] = [plugin.Timekeeper(send)]
    options = ["-q", "--tb=short", "-m", "not slow", "-p", "no:cacheprovider"]
    if chosen is not None:
        options.append("-x")
        plugins.append(plugin.Selection(chosen))
    with contextlib.ExitStack() as stack:
        if record is not None:
            plugins.append(plugin.Recorder(send, stack.enter_context(_recording(record))))
        code = int(pytest.main([*options, f"--basetemp={scratch / 'tests'}", *files], plugins))
    if record is not None:
        names = sorted(n for n in sys.modules if not n.startswith((*NOT_PRELOADED, "__")))
        (record.parent.parent / "modules.txt").write_text("\n".join(names))
    return code


def preload(names: Sequence[str]) -> None:
    """Import what the tests import from outside the project, before the first mutant."""
    for name in names:
        if name.startswith(("torch", "numpy", "scipy", "sklearn", "PIL", "safetensors", "rich")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _recording(data_file: Path) -> Iterator[Any]:
    import coverage

    recorder = coverage.Coverage(
        data_file=str(data_file), data_suffix="tests", config_file=False, source=[str(PACKAGE)]
    )
    os.environ["SQUEEZENET_RECORD"] = str(data_file)
    os.environ["SQUEEZENET_SOURCE"] = str(PACKAGE)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()
        recorder.save()


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of the children that it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
