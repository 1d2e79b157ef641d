"""The commands that must survive faults, and what must be there when they have been run again.

A scenario is a command in a folder of its own. It ends well when the same command, run again after
any fault, gives the files that an undisturbed run gives, and the user's own files are untouched.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.faults.two_ranks import NUM_RANKS

TRAIN = (
    "train", "digits", "--arch", "squeezenet_tiny", "--epochs", "3", "--checkpoint-every", "2",
    "--threads", "1", "--workers", "0", "--device", "cpu", "--out", "run",
)  # fmt: skip
NEIGHBOURS = {"notes.txt": b"precious", ".notes.txt.abc.tmp": b"precious too"}
"""Files of the user beside the output, which no command may touch."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``command`` runs in a folder that ``prepare`` fills; ``results`` reads what counts.

    ``module`` is what Python runs with it. Each of ``num_ranks`` says once what went wrong.
    """

    name: str
    command: tuple[str, ...]
    prepare: Callable[[Path, Path], None]
    results: Callable[[Path], dict[str, str]]
    module: str = "squeezenet"
    num_ranks: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one call of a command ended."""

    code: int
    stderr: str

    def faults(self) -> list[str]:
        """What a user must never see, whatever failed."""
        bad = ["internal error", "Traceback", "Exception ignored", "terminate called"]
        return [f"stderr has {text!r}" for text in bad if text in self.stderr]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _of_run(folder: Path) -> dict[str, str]:
    run = folder / "run"
    result = json.loads((run / "result.json").read_text())
    del result["seconds"]
    # The time and a checksum over it differ from run to run.
    result = {k: v for k, v in result.items() if not isinstance(v, str) or len(v) < 30}
    names = ("best.safetensors", "last.safetensors", "report/confusion.png")
    return {name: _digest(run / name) for name in names} | {"result": json.dumps(result)}


def _of_files(*names: str) -> Callable[[Path], dict[str, str]]:
    return lambda folder: {name: _digest(folder / name) for name in names}


def _of_folder(name: str) -> Callable[[Path], dict[str, str]]:
    return lambda folder: {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def _copies(*names: str) -> Callable[[Path, Path], None]:
    def prepare(inputs: Path, folder: Path) -> None:
        for name in names:
            copy = shutil.copytree if (inputs / name).is_dir() else shutil.copy
            copy(inputs / name, folder / name)

    return prepare


def _pictures(inputs: Path, folder: Path) -> None:
    """Write files that have the names of pictures; shards take any bytes."""
    for i in range(30):
        path = folder / "pictures" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(i).encode()).digest() * 30)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="train", command=TRAIN, prepare=_copies(), results=_of_run),
        Scenario(
            name="train-ranks",
            command=TRAIN,
            prepare=_copies(),
            results=_of_run,
            module="tests.faults.two_ranks",
            num_ranks=NUM_RANKS,
        ),
        Scenario(
            name="compress",
            command=(
                "compress", "run", "--calib", "digits", "--effort", "low", "--threads", "1",
                "--workers", "0", "--device", "cpu", "--checkpoint-every", "2", "--out", "m.sqz",
            ),
            prepare=_copies("run"),
            results=_of_files("m.sqz"),
        ),
        Scenario(
            name="report",
            command=("report", "m.sqz", "digits", "--workers", "0", "--out", "shown"),
            prepare=_copies("m.sqz"),
            results=_of_folder("shown"),
        ),
        Scenario(
            name="export",
            command=("export", "m.sqz", "--to", "c", "--out", "m-c"),
            prepare=_copies("m.sqz"),
            results=_of_folder("m-c"),
        ),
        Scenario(
            name="convert",
            command=("convert", "m.sqz", "m.safetensors"),
            prepare=_copies("m.sqz"),
            results=_of_files("m.safetensors"),
        ),
        Scenario(
            name="fetch",
            command=("fetch", "squeezenet1_1", "--mirror", "MIRROR", "--out", "cache"),
            prepare=_copies(),
            results=_of_files("cache/squeezenet1_1-b8a52dc0.pth"),
            module="tests.faults.fetching",  # weights of our own making, so it needs no network
        ),
        Scenario(
            name="shard",
            command=("shard", "pictures", "shards", "--shard-size", "16K", "--workers", "0"),
            prepare=_pictures,
            results=_of_folder("shards"),
        ),
    )
}  # fmt: skip


def call(
    scenario: Scenario, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a scenario's command in ``folder``."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    base = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "XDG_CACHE_HOME": str(folder / "home"),
        "MPLCONFIGDIR": str(folder.parent / "matplotlib"),
    }
    words = [_mirror() if word == "MIRROR" else word for word in scenario.command]
    return subprocess.Popen(
        [sys.executable, "-m", scenario.module, *words],
        cwd=folder,
        env=os.environ | base | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(scenario: Scenario, folder: Path, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run a scenario's command to its end."""
    process = call(scenario, folder, environment)
    _, stderr = process.communicate()
    return Outcome(code=process.returncode, stderr=stderr)


class Workplace:
    """Inputs that all scenarios share, and what undisturbed runs give; made once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inputs = root / "inputs"
        self._references: dict[str, dict[str, str]] = {}
        self.inputs.mkdir(parents=True, exist_ok=True)
        for name, made in (("train", "run"), ("compress", "m.sqz")):
            if not (self.inputs / made).exists():
                outcome = run(SCENARIOS[name], self.inputs)
                assert outcome.code == 0, outcome.stderr

    def new_folder(self, scenario: Scenario, name: str) -> Path:
        """Return a folder with the scenario's inputs and the user's own files."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        scenario.prepare(self.inputs, folder)
        for neighbour, content in NEIGHBOURS.items():
            (folder / neighbour).write_bytes(content)
        return folder

    def reference(self, scenario: Scenario) -> dict[str, str]:
        """Return the results of an undisturbed run."""
        if scenario.name not in self._references:
            folder = self.new_folder(scenario, f"{scenario.name}-reference")
            outcome = run(scenario, folder)
            assert outcome.code == 0, outcome.stderr
            self._references[scenario.name] = scenario.results(folder)
        return self._references[scenario.name]

    def problems_after(self, scenario: Scenario, folder: Path) -> list[str]:
        """Run the command again without a fault; return what is wrong then."""
        outcome = run(scenario, folder)
        if outcome.code != 0:
            last = outcome.stderr.strip().splitlines()[-1:]
            return [f"the next call ends with {outcome.code}: {last}"]
        problems = outcome.faults()
        wanted, found = self.reference(scenario), scenario.results(folder)
        problems += [f"{name} differs" for name in wanted if found.get(name) != wanted[name]]
        for name, content in NEIGHBOURS.items():
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                problems.append(f"the user's {name} is lost")
        left = [str(path.relative_to(folder)) for path in folder.rglob("*squeezenet-tmp*")]
        return problems + [f"{path} is left behind" for path in left]


@functools.lru_cache(maxsize=1)
def _mirror() -> str:
    """Serve the published weights of ``fetching`` on this machine; return the URL."""
    from tests.faults.fetching import FILE_NAME, weights

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = weights()
            begin = 0
            if wanted := self.headers.get("Range"):
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if not self.path.endswith(FILE_NAME) or begin >= len(content):
                self.send_error(416 if begin else 404)
                return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            if begin:
                size = len(content)
                self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
            self.end_headers()
            self.wfile.write(content[begin:])

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def build_library(folder: Path) -> Path:
    """Compile ``faults.c``; return the library to preload."""
    library = folder / "faults.so"
    source = REPOSITORY / "tests" / "faults" / "faults.c"
    command = ["cc", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return library


def failing_call(
    library: Path, folder: Path, kind: str, number: int, code: int = 0
) -> dict[str, str]:
    """Return the environment in which the ``number``-th call of a kind fails; 0: none.

    The number of calls is written to ``count`` beside ``folder`` when the command ends.
    """
    count = folder.parent / "count"
    count.unlink(missing_ok=True)
    return {
        "LD_PRELOAD": str(library),
        "FAULT_FOLDER": str(folder),
        "FAULT_CALL": kind,
        "FAULT_NUMBER": str(number),
        "FAULT_ERRNO": str(code),
        "FAULT_COUNT": str(count),
    }
