"""Studies and tables that are killed, and studies that several processes share: minutes.

The PostgreSQL server is Debian's, started here in a temporary folder as its own user.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squeezenet.arch.network_file import network_json
from squeezenet.explore.storage import sqlite_url
from squeezenet.explore.study import Study
from tests.explore.test_compression_table import ALEXNET
from tests.ports import free_port

pytestmark = pytest.mark.slow

SMALL = (
    "--arch", "squeezenet_tiny", "--base-e", "8", "--incr-e", "8", "--epochs", "2",
    "--train-images", "400",
)  # fmt: skip
NAMES = [f"sr-{value}-seed{seed}" for seed in range(3) for value in ("0.25", "0.5", "1")]
SWEEP = ("explore", "sr", "digits", *SMALL, "--values", "0.25,0.5,1", "--seeds", "3")
NUM_KILLS = 20


def start(*words: object) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "squeezenet", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    shown, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(shown)
    return found


def done(url: str, name: str) -> Counter[str]:
    """How often each trial was finished, by all that the database has."""
    with Study.load(url, name) as study:
        trials = study._study.get_trials()
    plans = [t.user_attrs["plan"] for t in trials if t.state.name == "COMPLETE"]
    return Counter(f"{plan['variant']['name']}-seed{plan['seed']}" for plan in plans)


def test_killed_twenty_times(tmp_path: Path) -> None:
    out, rng = tmp_path / "study", random.Random(0)
    kills = 0
    results: dict[Path, bytes] = {}
    while kills < NUM_KILLS:
        started = start(*SWEEP, "--out", out, "--checkpoint-every", 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(rng.uniform(0.5, 12))
        if started.poll() is not None:
            assert started.returncode == 0, started.communicate()[1]
            if kills < NUM_KILLS // 2:  # finished too soon: begin anew, and kill that one too
                assert set(done(sqlite_url(out / "study.db"), "study").values()) == {1}
                shutil.rmtree(out)
                results.clear()
        else:
            os.kill(started.pid, signal.SIGKILL)
        started.communicate()
        kills += 1
        # What is finished stays as it is.
        for file in out.glob("trials/*/result.json"):
            assert file.read_bytes() == results.setdefault(file, file.read_bytes())
    found = finished(start(*SWEEP, "--out", out))
    assert sorted(trial["name"] for trial in found["trials"]) == sorted(NAMES)
    assert done(sqlite_url(out / "study.db"), "study") == Counter(NAMES)
    for file, content in results.items():
        assert file.read_bytes() == content
    assert list((out / "workers").iterdir()) == []


def test_interrupted_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "study"
    started = start(*SWEEP, "--out", out)
    while not list(out.glob("trials/*/checkpoints/*")):
        assert started.poll() is None
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "trials done; the others have checkpoints" in errors
    url = sqlite_url(out / "study.db")
    with Study.load(url, "study") as study:
        assert study.counts().running == 0
    finished(start(*SWEEP, "--out", out))
    assert done(url, "study") == Counter(NAMES)


def test_a_table_killed_ten_times(tmp_path: Path) -> None:
    """Its rows are those of a table that was never killed."""
    (tmp_path / "alexnet.json").write_text(network_json(ALEXNET))
    words = (
        "explore", "table2", "digits", "--baseline", tmp_path / "alexnet.json", "--epochs", 4,
        "--retrain-epochs", 4, "--checkpoint-every", 0,
    )  # fmt: skip
    whole = finished(start(*words, "--out", tmp_path / "whole"))
    out, rng = tmp_path / "killed", random.Random(0)
    for _ in range(10):
        started = start(*words, "--out", out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(rng.uniform(4, 12))
        os.kill(started.pid, signal.SIGKILL)
        started.communicate()
    assert finished(start(*words, "--out", out))["rows"] == whole["rows"]


def test_two_commands_share_an_sqlite_study(tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "study", tmp_path / "second" / "study"
    url = sqlite_url(tmp_path / "shared.db")
    words = (*SWEEP, "--storage", url, "--jobs", 1)
    owner = start(*words, "--out", first)
    while not (first / "trials").exists():
        assert owner.poll() is None
        time.sleep(0.1)
    joined = start(*words, "--out", second, "--join")
    assert len(finished(owner)["trials"]) == len(NAMES)
    assert len(finished(joined)["trials"]) == len(NAMES)
    assert done(url, "study") == Counter(NAMES)
    runs = [[p.name for p in (out / "trials").iterdir()] for out in (first, second)]
    assert all(runs) and sorted(runs[0] + runs[1]) == sorted(NAMES)
    # The same command goes on in the folder of who joined, too.
    assert len(finished(start(*words, "--out", second, "--join"))["trials"]) == len(NAMES)


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a PostgreSQL server; return the URL of a database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.skip("needs PostgreSQL, which is not installed (Debian: postgresql)")
    folder, port = programs[-1].parent, free_port()
    data = tmp_path / "server"
    data.mkdir()
    become: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(data, "postgres", "postgres")
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
        become = {"user": "postgres", "group": "postgres", "extra_groups": []}
    subprocess.run(
        [folder / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd="/", **become,
    )  # fmt: skip
    server = subprocess.Popen(
        [folder / "postgres", "-D", data, "-p", str(port), "-k", data, "-h", "127.0.0.1"],
        stderr=subprocess.DEVNULL, cwd="/", **become,
    )  # fmt: skip
    try:
        psql = [folder / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        for _ in range(100):
            if subprocess.run([*psql, "-c", "select 1"], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", server
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(30)


def test_three_commands_share_a_postgresql_study(
    tmp_path: Path, postgresql: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, _ = postgresql
    folders = [tmp_path / name / "study" for name in ("a", "b", "c")]
    words = (*SWEEP, "--storage", url, "--jobs", 1)
    started = [start(*words, "--out", folders[0])]
    while not (folders[0] / "trials").exists():
        assert started[0].poll() is None
        time.sleep(0.1)
    started += [start(*words, "--out", out, "--join") for out in folders[1:]]
    for process in started:
        assert len(finished(process)["trials"]) == len(NAMES)
    assert done(url, "study") == Counter(NAMES)
    runs = [p.name for out in folders for p in out.glob("trials/*")]
    assert sorted(runs) == sorted(NAMES)


def test_a_database_that_goes_in_the_middle(
    tmp_path: Path, postgresql: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, server = postgresql
    out = tmp_path / "study"
    started = start(*SWEEP, "--storage", url, "--out", out)
    while not list(out.glob("trials/*/checkpoints/*")):
        assert started.poll() is None
        time.sleep(0.1)
    server.send_signal(signal.SIGQUIT)
    server.wait(30)
    shown, errors = started.communicate(timeout=300)
    assert started.returncode == 1 and shown == ""
    last = errors.strip().splitlines()[-1]
    assert last.startswith("squeezenet: ") and "the study's database cannot be used" in last
    assert "Traceback" not in errors, errors
    assert list(out.glob("trials/*/checkpoints/*"))
