"""Let every write, rename and fsync of every command fail once, and kill the commands at random.

    python -m tests.faults calls                 each call fails once: hours
    python -m tests.faults calls --scenario export --kind rename
    python -m tests.faults kills --num 1000      SIGKILL at random moments: an hour or two
    python -m tests.faults elastic --num 1200    SIGKILL of torchrun's workers, or of all: hours

A run that was stopped goes on: what is done is kept in ``build/faults``. Prints every problem, and
ends with 1 if there was one. See ``scenarios`` for what is a problem.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from tests.faults.scenarios import (
    SCENARIOS,
    Scenario,
    Workplace,
    build_library,
    call,
    failing_call,
    run,
)

KINDS = ("write", "fsync", "rename")
CODES = (errno.ENOSPC, errno.EIO)
_SHARES = (
    ("train",) * 3 + ("train-ranks",) + ("compress",) * 3 + ("report", "export", "fetch", "shard")
)
"""Kills in proportion to how long and how often people run the commands."""
_MAX_KILLS_IN_A_ROW = 3


class Record:
    """Trials that are done and the problems found, one JSON line each."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() and not fresh else []
        self.trials: list[dict[str, Any]] = [
            json.loads(line) for line in lines if line.endswith("}")
        ]
        if fresh:
            path.unlink(missing_ok=True)
        self._known = {trial["trial"] for trial in self.trials}

    def has(self, trial: str) -> bool:
        return trial in self._known

    def add(self, trial: str, kills: int, problems: list[str]) -> None:
        entry = {"trial": trial, "kills": kills, "problems": problems}
        self.trials.append(entry)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if problems:
            print(f"{trial}: {'; '.join(problems)}", flush=True)
        if len(self.trials) % 50 == 0:
            print(f"{len(self.trials)} trials", file=sys.stderr, flush=True)

    def finish(self) -> int:
        bad = [trial for trial in self.trials if trial["problems"]]
        kills = sum(trial["kills"] for trial in self.trials)
        print(f"{len(self.trials)} trials, {kills} kills, {len(bad)} with problems")
        for trial in bad:
            print(f"  {trial['trial']}: {'; '.join(trial['problems'])}")
        return int(bool(bad))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("what", choices=["calls", "kills", "elastic"])
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--num", type=int, default=1000, help="kills (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="try only each so-manieth call")
    parser.add_argument("--fresh", action="store_true", help="forget what is done")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "faults")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    place = Workplace(options.work.resolve() / "places")
    record = Record(options.work / f"{options.what}.jsonl", fresh=options.fresh)
    if options.what == "calls":
        fail_calls(place, record, options)
    elif options.what == "elastic":
        kill_elastic(record, options)
    else:
        kill(place, record, options)
    return record.finish()


def fail_calls(place: Workplace, record: Record, options: argparse.Namespace) -> None:
    library = build_library(place.root)
    for name in options.scenario or list(SCENARIOS):
        scenario = SCENARIOS[name]
        for kind in options.kind or KINDS:
            folder = place.new_folder(scenario, name)
            assert run(scenario, folder, failing_call(library, folder, kind, 0)).code == 0
            num_calls = int((place.root / "count").read_text())
            print(f"{name}: {num_calls} calls of {kind}", file=sys.stderr, flush=True)
            for number in range(1, num_calls + 1, options.every):
                trial = f"{name} {kind} {number}/{num_calls}"
                if not record.has(trial):
                    code = CODES[number % len(CODES)]
                    record.add(trial, 0, fail_one(place, scenario, library, kind, number, code))


def fail_one(
    place: Workplace, scenario: Scenario, library: Path, kind: str, number: int, code: int
) -> list[str]:
    """Let one call fail, then run the command again; return what went wrong."""
    folder = place.new_folder(scenario, scenario.name)
    outcome = run(scenario, folder, failing_call(library, folder, kind, number, code))
    problems = outcome.faults()
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("squeezenet: ")]
    if outcome.code not in (0, 1) or (outcome.code == 1 and len(errors) != scenario.num_ranks):
        problems.append(f"ended with {outcome.code} and {len(errors)} error lines")
    problems += place.problems_after(scenario, folder)
    if problems:
        problems.append(f"stderr of the fault: {outcome.stderr.strip()[-300:]!r}")
    return problems


def kill(place: Workplace, record: Record, options: argparse.Namespace) -> None:
    seconds: dict[str, float] = {}
    done = sum(trial["kills"] for trial in record.trials)
    index = 0
    while done < options.num:
        rng = random.Random(f"{options.seed} {index}")
        name = rng.choice(options.scenario or _SHARES)
        trial = f"kill {index} {name}"
        index += 1
        if record.has(trial):
            continue
        scenario = SCENARIOS[name]
        if name not in seconds:
            place.reference(scenario)
            started = time.monotonic()
            run(scenario, place.new_folder(scenario, name))
            seconds[name] = time.monotonic() - started
        folder = place.new_folder(scenario, name)
        kills = 0
        for _ in range(rng.randint(1, _MAX_KILLS_IN_A_ROW)):
            process = call(scenario, folder)
            try:
                process.communicate(timeout=rng.uniform(0, 1.1 * seconds[name]))
                break  # it was faster
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
        record.add(trial, kills, place.problems_after(scenario, folder))
        done += kills
        shutil.rmtree(folder)


def kill_elastic(record: Record, options: argparse.Namespace) -> None:
    from tests.faults import elastic

    done = sum(trial["kills"] for trial in record.trials)
    index = 0
    while done < options.num:
        rng = random.Random(f"{options.seed} {index}")
        # A trial of workers has several times the kills of one of the group.
        share = elastic.GROUP_SHARE * elastic.MAX_KILLS["worker"] / elastic.MAX_KILLS["group"]
        name = "group" if rng.random() < share / (1 + share) else "worker"
        trial = f"elastic {index} {name}"
        index += 1
        if not record.has(trial):
            kills, problems = elastic.trial(options.work.resolve(), name, rng)
            record.add(trial, kills, problems)
            done += kills


if __name__ == "__main__":
    sys.exit(main())
