"""Mutate ``compress``, ``codec`` and ``train`` line by line, and see which changes no test notices.

    python tools/mutation                          600 mutants, seed 0: hours
    python tools/mutation --folder codec -n 30     the first 30 of a folder
    python tools/mutation --mutant ID              one: its diff, its tests, what they say

**What runs.** A mutant of ``compress`` meets ``tests/compress``, and so on (``--tests`` names
others). Of these it meets the tests that run its line, or that name the constant in it, fast ones
first, until one fails. Tests that are marked slow are left out, and those over
``--max-test-seconds``. Tests are measured in processor time, so other work on the machine changes
nothing. A test that hangs is stopped: its limit is four times its usual time plus ten seconds, of
which half must be spent computing. One that only waits is stopped after four times the limit. The
mutant then counts as killed.

Each mutant runs in a forked process that has torch imported already. No file of the checkout
changes: an import hook serves the mutated text. Programs that tests start load the mutant too
(``python -m squeezenet``), unless they run without PYTHONPATH. What is compiled is not mutated.

**What is drawn.** See ``mutants.py``. A longer draw by the same seed begins with a shorter one.

**What is left out beforehand**, because no behaviour hangs on it, and nothing else:

- annotations, and type aliases at a module's top;
- docstrings;
- strings in a ``raise`` statement and the message of an ``assert``, f-strings included;
- strings given to ``log``, ``task`` and ``advance``: what progress shows;
- ``__repr__`` methods;
- ``frozen``, ``kw_only`` and ``slots`` of a dataclass: mypy holds what they forbid;
- what stands under ``if TYPE_CHECKING``;
- what does not compile, or parses to the same tree.

**Results** are kept in ``build/mutation``, so a run that was stopped goes on. A killed mutant stays
killed while its module is unchanged. A survivor is tried again when code or tests change.
``--fresh`` tries all again. The exit status is 1 where a folder's score is under ``--require``.

**Why not mutmut, nor cosmic-ray's own runner.** mutmut 3.8 mutates only functions, and none that
have decorators: 587 of 3,390 sites here stand elsewhere, all constants among them. It draws nothing
by a seed. 1,395 of its 10,222 mutants here assign None, which almost any test kills. cosmic-ray 8.7
starts all tests anew for each mutant, which takes 25 to 125 seconds of processor time here. So the
mutants are cosmic-ray's, and the runner is ours.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import reach
import runner
from mutants import PACKAGE, ROOT, Mutant, draw, modules, sites_of

FOLDERS = ("compress", "codec", "train")
LIMIT_FACTOR, LIMIT_SECONDS = 4, 10
"""A test may take so many times its usual time, and so many seconds more."""
COLLECTION_SECONDS = 90
"""Imports and collection take 2 to 5 seconds on one core."""

Result = dict[str, Any]

UNTESTED: Result = {
    "status": "survived",
    "by": "",
    "why": "no chosen test runs it",
    "num_tests": 0,
    "seconds": 0.0,
    "cpu_seconds": 0.0,
}


def main() -> int:
    options = parsed_options()
    folders = options.folder or list(FOLDERS)
    options.work.mkdir(parents=True, exist_ok=True)
    paths = modules(folders)
    if options.module:
        paths = [(ROOT / path).resolve() for path in options.module]
    elif options.mutant:
        paths = [ROOT / options.mutant.partition(":")[0]]
    sites = [site for path in paths for site in sites_of(path)]
    if options.mutant:
        found = [m for site in sites for m in site.mutants if m.id == options.mutant]
        if not found:
            sys.exit(f"no mutant {options.mutant}: expected an ID as the report prints it")
        drawn = found
    else:
        drawn = draw(sites, options.num_mutants, options.seed)
    print(f"{len(drawn)} mutants of {len(sites)} sites, seed {options.seed}")
    if options.list:
        print("\n".join(mutant.id for mutant in drawn))
        return 0
    reaches = {}
    for folder in dict.fromkeys(mutant.folder for mutant in drawn):
        tests = options.tests or [f"tests/{folder}"]
        reaches[folder] = reach.recorded(tests, options.work), reach.state_of_code(tests)
    results = run_all(drawn, reaches, options)
    if options.mutant:
        return 0
    report = summary(results, options)
    text = as_text(report)
    (options.work / "report.txt").write_text(text, encoding="utf-8")
    print(text, end="")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(any(row["score"] < options.require for row in report["folders"].values()))


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tools/mutation", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("-n", "--num-mutants", type=int, default=600, help="mutants to draw (default 600)")
    add("--seed", type=int, default=0, help="seed of the draw (default 0)")
    add("-j", "--jobs", type=int, default=1, help="mutants to try at a time (default 1)")
    add("--folder", action="append", choices=FOLDERS, help="draw from this folder alone")
    add("--module", action="append", type=Path, help="draw from this file alone")
    add("--mutant", metavar="ID", help="try one mutant; print its diff and what its tests say")
    add("--list", action="store_true", help="print the IDs of the draw and end")
    add("--tests", action="append", metavar="PATH", help="tests (default tests/FOLDER)")
    add("--max-test-seconds", type=float, default=60, help="leave out longer tests (default 60 s)")
    add("--require", type=float, default=85, help="lowest score in percent (default 85)")
    add("--fresh", action="store_true", help="forget earlier results")
    add("--json", type=Path, metavar="FILE", help="write the report there as JSON too")
    add("--work", type=Path, default=ROOT / "build" / "mutation", help="folder of results")
    return parser.parse_args()


def run_all(
    drawn: list[Mutant], reaches: dict[str, tuple[reach.Reach, str]], options: argparse.Namespace
) -> list[Result]:
    """Try each mutant that has no result yet; return all results, in the order of the draw."""
    log = options.work / "results.jsonl"
    earlier = {} if options.fresh or options.mutant else earlier_results(log)
    results: dict[str, Result] = {}
    waiting: deque[Mutant] = deque()
    for mutant in drawn:
        result = earlier.get(mutant.id)
        if result and is_valid(result, mutant, reaches[mutant.folder][1]):
            results[mutant.id] = result
        else:
            waiting.append(mutant)
    if results:
        print(f"{len(results)} have a result already")

    def keep(mutant: Mutant, outcome: Result) -> None:
        result = described(mutant, reaches[mutant.folder][1]) | outcome
        results[mutant.id] = result
        if not options.mutant:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        print(progress_line(result, len(results), len(drawn)), flush=True)

    running: dict[int, tuple[Mutant, runner.Child, int]] = {}
    try:
        while waiting or running:
            for slot in range(options.jobs):
                if waiting and slot not in running:
                    mutant = waiting.popleft()
                    tests = reaches[mutant.folder][0].tests_of(mutant, options.max_test_seconds)
                    if tests:
                        running[slot] = mutant, begin(mutant, tests, slot, options.work), len(tests)
                    else:
                        keep(mutant, UNTESTED)
            for slot, (mutant, child, num_tests) in [*running.items()]:
                status = child.poll()
                if status is not None:
                    del running[slot]
                    keep(mutant, judged(mutant, child, status, num_tests))
                    if options.mutant:
                        print("\n".join(["", *diff_of(mutant), ""]))
                        print(child.log.read_text("utf-8", errors="replace"))
            time.sleep(runner.POLL_SECONDS)
    finally:
        for _, child, _ in running.values():
            runner.stop(child)
    return [results[mutant.id] for mutant in drawn]


def earlier_results(log: Path) -> dict[str, Result]:
    """Return the last result of each mutant; a line that was cut off is none."""
    found = {}
    for line in log.read_text("utf-8").splitlines() if log.exists() else []:
        try:
            result = json.loads(line)
            found[result["id"]] = result
        except ValueError:
            continue
    return found


def is_valid(result: Result, mutant: Mutant, state: str) -> bool:
    """Say whether a result still holds: see Results above."""
    if result["module_hash"] != module_hash(mutant):
        return False
    return bool(result["status"] != "survived" or result["state"] == state)


def module_hash(mutant: Mutant) -> str:
    return hashlib.sha256(mutant.path.read_bytes()).hexdigest()[:16]


def begin(mutant: Mutant, tests: Sequence[reach.Test], slot: int, work: Path) -> runner.Child:
    """Start the tests of a mutant."""
    text = mutant.text()
    assert text is not None
    file = work / f"mutant{slot}.py"
    file.write_text(text, encoding="utf-8")
    name = ".".join(mutant.path.relative_to(PACKAGE.parent).with_suffix("").parts)
    seconds = {test.name: test.seconds for test in tests}

    def limit_of(test: str) -> float:
        usual = seconds.get(test)
        return COLLECTION_SECONDS if usual is None else usual * LIMIT_FACTOR + LIMIT_SECONDS

    return runner.start(
        work / f"output{slot}.txt",
        sorted({test.file for test in tests}),
        chosen=[test.name for test in tests],
        mutant=(name.removesuffix(".__init__"), file),
        limit_of=limit_of,
    )


def judged(mutant: Mutant, child: runner.Child, status: int, num_tests: int) -> Result:
    """Return what became of a mutant whose tests have ended."""
    failed = next((message for message in child.messages if "failed" in message), {})
    by, why = failed.get("failed", ""), failed.get("why", "")
    if child.ended_by:
        outcome, why = "timed out", child.ended_by
    elif status == 0:
        outcome = "survived"
    elif status in (1, 2, 3, 4) or status < 0:
        outcome, why = "killed", why or f"exit status {status} before a test"
    else:
        sys.exit(f"{mutant.id}: pytest ended with {status}, expected 0 to 4; see {child.log}")
    return {
        "status": outcome,
        "by": by,
        "why": why,
        "num_tests": num_tests,
        "seconds": round(time.monotonic() - child.started, 2),
        "cpu_seconds": round(child.cpu_seconds, 2),
    }


def described(mutant: Mutant, state: str) -> Result:
    """Return what a result says of its mutant, and of the code it is a result for."""
    return {
        "id": mutant.id,
        "folder": mutant.folder,
        "diff": list(diff_of(mutant)),
        "module_hash": module_hash(mutant),
        "state": state,
    }


def diff_of(mutant: Mutant) -> Iterator[str]:
    before = mutant.path.read_text("utf-8").splitlines()
    lines = difflib.unified_diff(before, (mutant.text() or "").splitlines(), n=0, lineterm="")
    return (line for line in lines if not line.startswith(("---", "+++", "@@")))


def progress_line(result: Result, num_done: int, num_all: int) -> str:
    note = result["by"].rpartition("/")[2] or result["why"]
    if result["status"] == "survived":
        note = f"{result['num_tests']} tests"
    where = result["id"].removeprefix("src/squeezenet/")
    return (
        f"[{num_done:3}/{num_all}] {result['status']:9} {result['seconds']:6.1f} s  {where}  {note}"
    )


def summary(results: list[Result], options: argparse.Namespace) -> dict[str, Any]:
    """Return the report: a row per folder, a row for all, and the survivors."""

    def row(some: list[Result]) -> dict[str, Any]:
        count = {
            s: sum(r["status"] == s for r in some) for s in ("killed", "timed out", "survived")
        }
        dead = len(some) - count["survived"]
        return {
            "mutants": len(some),
            **count,
            "score": round(100 * dead / len(some), 1) if some else 100.0,
            "cpu minutes": round(sum(r["cpu_seconds"] for r in some) / 60, 1),
        }

    names = list(dict.fromkeys(result["folder"] for result in results))
    return {
        "seed": options.seed,
        "all": row(results),
        "folders": {name: row([r for r in results if r["folder"] == name]) for name in names},
        "survivors": sorted(
            (r for r in results if r["status"] == "survived"), key=lambda r: place(r["id"])
        ),
    }


def place(mutant_id: str) -> tuple[str, int]:
    module, line, *_ = mutant_id.split(":")
    return module, int(line)


def as_text(report: dict[str, Any]) -> str:
    """Return the report as a table and a list."""
    columns = ["mutants", "killed", "timed out", "survived", "score", "cpu minutes"]
    lines = ["", f"{'':10}" + "".join(f"{name:>13}" for name in columns)]
    for name, row in [*report["folders"].items(), ("all", report["all"])]:
        lines.append(f"{name:10}" + "".join(f"{row[column]:>13}" for column in columns))
    lines += ["", f"{len(report['survivors'])} survivors", ""]
    for result in report["survivors"]:
        tests = result["num_tests"]
        lines.append(f"{result['id']}  ({f'{tests} tests' if tests else 'no chosen test runs it'})")
        lines += [f"    {line}" for line in result["diff"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    # The same for SIGTERM as for Ctrl-C, whatever a shell in the background handed down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except reach.BrokenTestsError as error:
        sys.exit(str(error))
