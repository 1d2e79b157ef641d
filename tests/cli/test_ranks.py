"""Commands that torchrun starts several of: what the ranks print, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.api.options import share_of_cores
from squeezenet.errors import UsageError
from squeezenet.images.batches import default_workers
from squeezenet.launch import Launch, num_cores, this_launch
from tests.cli.running import Capture, as_json
from tests.ports import free_port

needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
TRAIN = ("train", "digits", "--device", "cpu", "--threads", "1")


class Job:
    """Processes started by hand, as torchrun would start them on machines of their own.

    ``ranks`` are the arguments of each; ``start`` is what Python runs with those of rank 0.
    """

    def __init__(
        self,
        cwd: Path,
        *ranks: tuple[object, ...],
        size: int | None = None,
        start: tuple[str, ...] = ("-m", "squeezenet"),
    ) -> None:
        port = str(free_port())
        self.processes = []
        for rank, arguments in enumerate(ranks):
            place = {"RANK": str(rank), "WORLD_SIZE": str(size or len(ranks))}
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            runs = ("-m", "squeezenet") if rank else start
            process = subprocess.Popen(
                [sys.executable, *runs, *map(str, arguments)],
                cwd=cwd,
                env=os.environ | place | address,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self.processes.append(process)

    def end(self) -> list[tuple[int, str, list[str]]]:
        """Return exit code, stdout and lines of stderr of each rank."""
        ends = []
        for process in self.processes:
            out, err = process.communicate(timeout=120)
            assert "Traceback" not in err and "internal error" not in err, err
            ends.append((process.returncode, out, err.splitlines()))
        return ends


def wait_for(found: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Launch()),
        ({"RANK": "1", "WORLD_SIZE": "3"}, Launch(rank=1, num_ranks=3)),
        (
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Launch(rank=5, num_ranks=8, local_rank=1, num_local_ranks=4),
        ),
        ({"WORLD_SIZE": "3"}, Launch()),
        ({"RANK": "3", "WORLD_SIZE": "3"}, None),
        ({"RANK": "x", "WORLD_SIZE": "3"}, None),
        ({"RANK": "-1", "WORLD_SIZE": "3"}, None),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "3"}, None),
    ],
)
def test_the_place_of_a_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Launch | None
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if expected is None:
        with pytest.raises(UsageError, match="RANK=.* in the environment, expected ranks from 0"):
            this_launch()
    else:
        assert this_launch() == expected


@pytest.mark.parametrize(("num_local_ranks", "expected"), [(1, 8), (2, 4), (3, 2), (20, 1)])
def test_ranks_of_a_machine_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, num_local_ranks: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    place = {"RANK": "0", "WORLD_SIZE": str(num_local_ranks), "LOCAL_RANK": "0"}
    for name, value in (place | {"LOCAL_WORLD_SIZE": str(num_local_ranks)}).items():
        monkeypatch.setenv(name, value)
    assert num_cores() == expected and default_workers() == min(4, expected)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    alone = num_local_ranks == 1
    assert share_of_cores(this_launch()) == (None if alone else expected)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's own
    assert share_of_cores(this_launch()) is None


def test_rank_0_alone_speaks(tmp_path: Path, capsys: Capture) -> None:
    """One table, one report, one object of JSON; and evaluation by both gives what one gives."""
    arguments = (*TRAIN, "--out", "run", "--max-steps", "6", "--json")
    (code, out, lines), other = Job(tmp_path, arguments, arguments).end()
    assert (code, other) == (0, (0, "", []))
    result = json.loads(out)
    assert result["ranks"] == 2 and result["steps"] == 6
    assert json.loads((tmp_path / "run" / "result.json").read_text())["ranks"] == 2
    assert (tmp_path / "run" / "report" / "MODEL_CARD.md").is_file()
    assert not [line for line in lines if "Warning" in line]
    arguments = ("eval", "run", "digits", "--against", "run", "--json")
    (code, out, _), other = Job(tmp_path, arguments, arguments).end()
    assert (code, other) == (0, (0, "", []))
    run = tmp_path / "run"
    assert json.loads(out) == as_json(capsys, "eval", run, "digits", "--against", run)


def test_ranks_with_other_arguments(tmp_path: Path) -> None:
    first = (*TRAIN, "--out", "run", "--max-steps", "6")
    ends = Job(tmp_path, first, (*first, "--seed", "2")).end()
    message = "rank 1: seed is 2 here and 0 on rank 0; start all ranks with the same arguments"
    assert [(code, lines[-1]) for code, _, lines in ends] == [(2, f"squeezenet: {message}")] * 2
    assert not (tmp_path / "run").exists()


def test_ranks_that_are_not_there(tmp_path: Path) -> None:
    arguments = (*TRAIN, "--out", "run", "--max-steps", "6", "--rank-timeout", "2")
    job = Job(tmp_path, arguments, size=2)
    started = time.monotonic()
    ((code, out, lines),) = job.end()
    assert code == 1 and out == "" and time.monotonic() - started < 60
    assert re.fullmatch(
        r"squeezenet: could not join the other rank at 127\.0\.0\.1:\d+ within 2 s \(Timed out.*"
        r"\); check that every machine was started, .*GLOO_SOCKET_IFNAME",
        lines[-1],
    )
    assert len(lines) == 1


@needs_posix
@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_dies_ends_the_other(tmp_path: Path, killed: int) -> None:
    arguments = (*TRAIN, "--out", "run", "--max-steps", "100000", "--checkpoint-every", "0.1")
    job = Job(tmp_path, arguments, arguments)
    checkpoints = tmp_path / "run" / "checkpoints"
    wait_for(lambda: checkpoints.is_dir() and any(checkpoints.iterdir()))
    job.processes[killed].send_signal(signal.SIGKILL)
    code, _, lines = job.end()[1 - killed]
    assert code == 1
    assert "lost another rank (Connection" in lines[-1]
    assert "go on from the last checkpoint" in lines[-1]


@pytest.mark.slow
@needs_posix
def test_one_process_goes_on_with_what_two_have_left(tmp_path: Path) -> None:
    arguments = (*TRAIN, "--out", "run", "--max-steps", "100000", "--checkpoint-every", "0.1")
    checkpoints = tmp_path / "run" / "checkpoints"
    for ranks in ([arguments, arguments], [arguments]):
        before = names(checkpoints)
        job = Job(tmp_path, *ranks)
        wait_for(lambda before=before: names(checkpoints) - before)
        job.processes[-1].send_signal(signal.SIGTERM)
        ends = job.end()
        assert [code for code, _, _ in ends] == [143] * len(ranks)
    assert any("resumed run at step" in line for line in ends[0][2])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@needs_posix
def test_a_disk_that_is_full_on_rank_0(tmp_path: Path) -> None:
    """Its limit on file sizes stops the checkpoint; all ranks leave with rank 0's message."""
    (tmp_path / "limited.py").write_text(
        "import resource, runpy, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "runpy.run_module('squeezenet', run_name='__main__')\n"
    )
    arguments = (*TRAIN, "--out", "run", "--max-steps", "40")
    ends = Job(tmp_path, arguments, arguments, start=("limited.py",)).end()
    for rank, (code, _, lines) in enumerate(ends):
        assert code == 1
        assert lines[-1].startswith(f"squeezenet: {'rank 1: rank 0: ' * rank}")
        assert "File too large" in lines[-1]


def test_two_jobs_in_one_folder(tmp_path: Path) -> None:
    arguments = (*TRAIN, "--out", "run", "--max-steps", "100000")
    first = Job(tmp_path, arguments, arguments)
    lock = tmp_path / "run" / ".squeezenet.lock"
    wait_for(lock.exists)
    ends = Job(tmp_path, arguments, arguments).end()
    assert [code for code, _, _ in ends] == [1, 1]
    assert all("is working in this folder; wait for it" in lines[-1] for _, _, lines in ends)
    first.processes[1].terminate()
    ends = first.end()
    assert [code for code, _, _ in ends] == [143, 143]
    assert all("stopped at step" in lines[-1] for _, _, lines in ends)


def test_commands_of_one_process(tmp_path: Path) -> None:
    for command in (("predict", "a.png"), ("info", "default"), ("demo",)):
        ((code, out, lines),) = Job(tmp_path, command, size=2).end()
        assert (code, out) == (2, "")
        assert lines == [
            f"squeezenet: {command[0]}: works in one process, and torchrun started 2; start it "
            "without torchrun"
        ]
