"""The files in ``deploy/``: checked without Slurm, Kubernetes, Docker or a network.

Scripts are linted and run with stubs of Slurm's commands; manifests have the fields that the
published definitions of their APIs know, and their processes run here.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squeezenet.train.recipe import RECIPES
from tests import manifests
from tests.conftest import REPOSITORY
from tests.manifests import problems
from tests.ports import free_port

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
    printf 'localhost\\n'
    printf 'another%d\\n' {1..20000} # more than a pipe holds: nobody may stop reading early
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


# Kubernetes.


def manifest(path: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    [document] = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def pod_of(jobset: dict[str, Any]) -> dict[str, Any]:
    [replicated] = jobset["spec"]["replicatedJobs"]
    pod: dict[str, Any] = replicated["template"]["spec"]["template"]["spec"]
    return pod


def test_the_jobset_has_the_fields_of_its_api() -> None:
    assert list(problems(manifest(JOBSET), manifests.JOBSET)) == []


def test_the_trainjob_has_the_fields_of_its_api() -> None:
    assert list(problems(manifest(TRAINJOB), manifests.TRAINJOB)) == []


def test_the_check_of_fields_finds_what_is_wrong() -> None:
    wrong = manifest(JOBSET)
    del wrong["spec"]["replicatedJobs"][0]["name"]
    wrong["spec"]["replicatedJob"] = []
    pod = pod_of(wrong)
    pod["restartPolicy"] = "Always"
    pod["containers"][0]["env"][0]["value"] = 2
    assert len(list(problems(wrong, manifests.JOBSET))) == 4


def test_numbers_of_nodes_and_names_of_the_jobset_agree() -> None:
    jobset = manifest(JOBSET)
    [replicated] = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    [container] = pod_of(jobset)["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert job["completions"] == job["parallelism"] == int(env["PET_NNODES"])
    name = jobset["metadata"]["name"]
    assert env["PET_MASTER_ADDR"] == f"{name}-{replicated['name']}-0-0.{name}"
    assert [int(env["PET_MASTER_PORT"])] == [port["containerPort"] for port in container["ports"]]


@pytest.mark.parametrize("path", [JOBSET, TRAINJOB], ids=lambda path: path.stem)
def test_what_is_mounted_is_what_the_command_uses(path: Path) -> None:
    document = manifest(path)
    if path == JOBSET:
        pod = pod_of(document)
        command = pod["containers"][0]
    else:
        [patch] = document["spec"]["runtimePatches"]
        [job] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        pod = job["template"]["spec"]["template"]["spec"]
        command = document["spec"]["trainer"]
        reserved = [entry["name"] for entry in command["env"] if entry["name"].startswith("PET_")]
        assert not reserved  # Kubeflow Trainer sets these, and refuses a TrainJob that does
    [container] = pod["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts.values())
    arguments = command["args"]
    data, out = arguments[3], arguments[arguments.index("--out") + 1]
    assert data in mounts and any(out.startswith(f"{mount}/") for mount in mounts)
    assert arguments[arguments.index("--recipe") + 1] in RECIPES


@pytest.mark.slow
def test_the_pods_of_the_jobset_train(tmp_path: Path, commands: Path) -> None:
    """Its command and variables, as processes here; with other data, on an address of here."""
    [container] = pod_of(manifest(JOBSET))["containers"]
    here = {
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    arguments = [*container["args"][:3], "digits", "--out", "run", "--max-steps", "3"]
    pods = []
    for index in range(2):
        env = {entry["name"]: entry.get("value", str(index)) for entry in container["env"]}
        pod = subprocess.Popen(
            [*container["command"], *arguments], cwd=tmp_path, text=True,
            env=environment(commands, **env | here),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        pods.append(pod)
    for pod in pods:
        text, _ = pod.communicate(timeout=240)
        assert pod.returncode == 0, text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["ranks"] == 2


# Docker.


def test_the_image_is_built_from_what_is_here_and_runs_without_rights() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line.split()[1] for line in lines if line.startswith("FROM ")] == 2 * [
        "python:3.11-slim"
    ]
    users = [i for i, line in enumerate(lines) if line.startswith("USER ")]
    assert len(users) == 1 and not any(line.startswith("RUN ") for line in lines[users[0] :])
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--" not in line]
    assert all((REPOSITORY / name).exists() for name in copied)
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    [torch_version] = re.findall(r"torch==([\d.]+)", text)
    assert f"torch=={torch_version}" in pins
    assert "://" not in text


# The pages.


def documented_commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command in the blocks of the pages on training at scale."""
    commands = []
    for page in ("docs/distributed.md", "docs/imagenet.md"):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            lines = (shlex.split(line, comments=True) for line in block.splitlines())
            commands += [(page, words) for words in lines if words]
    return commands


def command_of_squeezenet(words: list[str]) -> list[str] | None:
    """The words after ``squeezenet`` of a command of ours, however it is started."""
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        options = get_args_parser().parse_args(words[1:])
        assert options.module and options.training_script == "squeezenet"
        rest: list[str] = options.training_script_args
        return rest
    if words[0] == "sbatch":
        assert (REPOSITORY / words[1]).is_file()
        return ["train", *words[2:]]
    return words[1:] if words[0] == "squeezenet" else None


def test_commands_of_the_pages_have_options_that_exist() -> None:
    from squeezenet.cli.app import app

    ours = [command_of_squeezenet(words) for _, words in documented_commands()]
    commands = [words for words in ours if words is not None]
    assert len(commands) >= 9
    for words in commands:
        if words[0] != "shard":  # its own tests have it
            app.parse_args(words, print_error=False, exit_on_error=False)


def test_files_that_the_pages_name_are_there() -> None:
    for _, words in documented_commands():
        for word in words:
            if word.startswith("deploy/"):
                assert (REPOSITORY / word).is_file(), word
