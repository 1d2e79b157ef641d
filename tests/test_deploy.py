"""The files in ``deploy/``: checked without Slurm, Kubernetes, Docker or a network.

Scripts are linted and run with stubs of Slurm's commands; manifests have the fields that the
published definitions of their APIs know, and their processes run here.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from squeezenet.train.recipe import RECIPES
from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
SBATCH = DEPLOY / "slurm" / "train.sbatch"
JOBSET = DEPLOY / "kubernetes" / "jobset.yaml"
TRAINJOB = DEPLOY / "kubernetes" / "trainjob.yaml"

# srun starts two tasks on this machine, as two nodes, and passes SIGTERM on to them.
_SRUN = """\
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
tasks=()
trap 'kill -TERM "${tasks[@]}" 2>/dev/null' TERM
for node in 0 1; do
    SLURM_NODEID=$node "$@" &
    tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do
    while kill -0 "$task" 2>/dev/null; do
        status=0
        wait "$task" || status=$?
    done
    ((status > code)) && code=$status
done
exit "$code"
"""
_SCONTROL = """\
#!/bin/bash
if [[ $1 == show ]]; then
    printf 'localhost\\nanother\\n'
else
    echo "$@" >> "$SCONTROL_LOG"
fi
"""


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with torchrun of this Python and stubs of Slurm's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    torchrun = f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n'
    for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL), ("torchrun", torchrun)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    return folder


def environment(commands: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    sources = os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PATH": path, "PYTHONPATH": sources} | more


# Linting.


def scripts() -> list[Path]:
    return sorted(p for p in DEPLOY.rglob("*") if p.suffix in (".sh", ".sbatch"))


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    done = subprocess.run([bash, "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_scripts_pass_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("needs shellcheck (apt-get install shellcheck)")
    done = subprocess.run([shellcheck, "--shell=bash", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_options_of_sbatch_come_first() -> None:
    """sbatch reads no #SBATCH line after the first command."""
    lines = SBATCH.read_text(encoding="utf-8").splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options and max(options) < first_command
    assert "#SBATCH --signal=B:USR1@180" in lines and "#SBATCH --requeue" in lines


# Slurm.


class SlurmJob:
    """The batch script as Slurm runs it on two nodes, with its own folder and job number."""

    def __init__(self, folder: Path, commands: Path) -> None:
        self.folder, self.commands = folder, commands
        self.log = folder / "scontrol.log"
        self.number = random.randrange(10_000)
        self.restarts = 0

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        variables = {
            "SLURM_JOB_ID": str(self.number),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_NODELIST": "node[0-1]",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_RESTART_COUNT": str(self.restarts),
            "SCONTROL_LOG": str(self.log),
        }
        self.restarts += 1
        return subprocess.Popen(
            ["bash", SBATCH, *arguments], cwd=self.folder, text=True, start_new_session=True,
            env=environment(self.commands, **variables),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def wait_until(condition: Callable[[], bool], job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not condition() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if not condition():
        job.send_signal(signal.SIGTERM)
        pytest.fail(job.communicate(timeout=60)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, as Slurm does")
def test_the_slurm_job_saves_goes_back_into_the_queue_and_continues(
    tmp_path: Path, commands: Path
) -> None:
    job = SlurmJob(tmp_path, commands)
    arguments = ("digits", "--out", "run", "--max-steps", "60", "--workers", "0")
    first = job.start(*arguments, "--checkpoint-every", "0")
    # After the first of three epochs, so that it is stopped in the middle.
    wait_until(lambda: (tmp_path / "run" / "best.safetensors").exists(), first)
    first.send_signal(signal.SIGUSR1)
    text, _ = first.communicate(timeout=240)
    assert first.returncode == 0, text
    stopped = re.search(r"stopped at step (\d+) of 60; a checkpoint is in run/checkpoints", text)
    assert stopped and 0 < int(stopped[1]) < 60, text
    assert job.log.read_text() == f"requeue {job.number}\n"

    second = job.start(*arguments)
    text, _ = second.communicate(timeout=240)
    assert second.returncode == 0, text
    assert f"resumed run at step {stopped[1]}" in text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == 60 and result["ranks"] == 2
    assert job.log.read_text().count("requeue") == 1
