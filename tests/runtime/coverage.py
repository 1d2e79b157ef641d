"""Measure which branches of the C runtime the tests and the fuzzing corpus reach together.

    python -m tests.runtime.coverage [--work build/coverage]

Compiles the C programs of ``runtime/tests`` and the fuzz targets with Clang's coverage, and runs:
the reader on all golden files; every group of ``misuse``; random networks by all kernels, loaded
and streamed; the files and models of ``hostile.py``; and each fuzz target on its seeds and on a
fixed number of mutations of them. Nothing is random, except how threads take turns.

A branch is one outcome, true or false, of a condition; a condition counts once, wherever it is
inlined. Prints a table per file of ``runtime/src`` and of the portable kernel, and the branches
that are not reached, with the reason from ``UNREACHED``. Exit code 1 if less than 95% are reached,
or if one that is not has no reason. Needs Clang and LLVM's tools, which are installed from Debian.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from squeezenet.codec.container import encode
from tests.conftest import REPOSITORY
from tests.runtime.hostile import extreme_models, refused
from tests.runtime.networks import random_network
from tests.runtime.targets.cases import PRESETS, SEEDS, case
from tests.runtime.targets.tools import RUNTIME, TargetError, call, install, load_program

fuzz = load_program(RUNTIME / "fuzz" / "run.py")

WORK = Path("build") / "coverage"
NEEDS = {"clang": "clang", "llvm-cov": "llvm", "llvm-profdata": "llvm"}
COVERAGE = ("-fprofile-instr-generate", "-fcoverage-mapping", "-fprofile-update=atomic")
"""Counters are atomic, since some programs have threads."""
FLAGS = ("-std=c99", "-g", "-O1", "-pthread", *COVERAGE)
MIN_PERCENT = 95
MUTATIONS = {"header": 400, "graph": 4000, "decoder": 1500, "file": 60, "run": 60}
"""Per seed: what takes about half a minute in all."""
VECTORS = REPOSITORY / "spec" / "vectors"
NETWORKS = (0, 2, 5, 8)
"""Seeds of random networks for ``misuse``."""

ADDRESSES = "only with 32-bit addresses: runtime/fuzz/run.py --bits 32"
UNREACHED: dict[tuple[str, str], str] = {
    ("src/sqz_arena.c", "i > 0"): "a max pool cannot be first: only convolutions read the input",
    ("src/sqz_arena.c", "root->last != i"): (
        "a place lives as long as its last tensor, which is the source; defends against new "
        "operations that work in place"
    ),
    ("src/sqz_arena.c", "out->bytes > root->bytes"): (
        "no target of a max pool or an addition is larger than its source; defends against new "
        "operations that work in place"
    ),
    ("src/sqz_arena.c", "!request_of(m, i, &other)"): "what has been placed needs bytes",
    ("src/sqz_coder.h", "zeros > 0"): (
        "the interval of an encoder is 2^24 long at least, so it has a multiple of 2^16; keeps the "
        "shift within 0 to 32 for any state"
    ),
    ("src/sqz_graph.c", "op->kind"): "the code was checked; there is a case for each kind",
    ("src/sqz_graph.c", "cursor.failed"): "the operation at which it failed has been refused",
    ("src/sqz_load.c", "a->used > a->size"): "the size was compared with the same computation",
    ("src/sqz_load.c", "(uint64_t)s.num_blocks * s.num_groups > SQZ_MAX_WEIGHTS"): (
        "blocks times groups of inputs are at most the weights, which are checked before; keeps "
        "the products after it below 2^64 without that argument"
    ),
    (
        "src/sqz_load.c",
        "sqz_blocks_in(&m->options, &s, s.num_blocks, NULL, NULL) > SIZE_MAX / 4",
    ): ADDRESSES,
    ("src/sqz_load.c", "a->used > SIZE_MAX / 4"): ADDRESSES,
    ("src/sqz_plan.c", "section.bytes == NULL"): "sqz_load has refused the file before",
    ("src/sqz_run.c", "i == 0"): "a max pool cannot be first: only convolutions read the input",
    ("src/sqz_run.c", "crop_scratch_offset(model) > SIZE_MAX - scratch"): ADDRESSES,
    ("src/sqz_run.c", "!error"): "sqz_classify_size has accepted the picture before",
    ("src/sqz_unpack.c", "m->options.kernels->prepare != NULL"): (
        "only the kernels for 64-bit ARM prepare blocks; make test-targets runs them"
    ),
}
"""Conditions of which one outcome cannot be reached here, and why."""


@dataclass(frozen=True, order=True)
class Branch:
    """One outcome of a condition."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    outcome: bool


class Programs:
    """Programs with coverage: builds them, runs them, and adds up what they reach."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._runs: dict[Path, list[Path]] = defaultdict(list)

    def build(self, name: str, sources: Iterable[Path], *flags: str) -> Path:
        """Compile a program from sources and the runtime."""
        runtime = [*RUNTIME.glob("src/sqz_*.c"), *RUNTIME.glob("kernels/sqz_*.c")]
        program = self._work / name
        call(["clang", *FLAGS, *flags, "-o", program, *sorted(sources), *sorted(runtime)])
        self._runs[program] = []
        return program

    def run(self, program: Path, *arguments: str | Path, codes: Iterable[int] = (0,)) -> None:
        """Run a program.

        Raises:
            TargetError: it ends by another exit code.
        """
        profile = self._work / f"{program.name}-{len(self._runs[program])}.profraw"
        self._runs[program].append(profile)
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=1200,
            env=os.environ | {"LLVM_PROFILE_FILE": str(profile)},
        )
        if done.returncode not in codes:
            raise TargetError(
                f"{program.name} {' '.join(map(str, arguments))[:200]}: exit code "
                f"{done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )

    def counts(self) -> dict[Branch, int]:
        """How often each branch of the runtime was taken, in all programs together."""
        counts: dict[Branch, int] = defaultdict(int)
        for program, profiles in self._runs.items():
            merged = program.with_suffix(".profdata")
            listed = program.with_suffix(".txt")
            listed.write_text("\n".join(map(str, profiles)))
            call(["llvm-profdata", "merge", "-sparse", "-o", merged, f"--input-files={listed}"])
            text = call(["llvm-cov", "export", f"-instr-profile={merged}", program])
            for function in json.loads(text)["data"][0]["functions"]:
                for where in function["branches"]:
                    line, column, end_line, end_column, taken, not_taken, file, *_ = where
                    path = Path(function["filenames"][file]).resolve()
                    if not path.is_relative_to(RUNTIME):
                        continue
                    place = (str(path.relative_to(RUNTIME)), line, column, end_line, end_column)
                    counts[Branch(*place, True)] += taken
                    counts[Branch(*place, False)] += not_taken
        return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder to work in ({WORK})")
    options = parser.parse_args()
    install(NEEDS)
    sys.exit(not measure(options.work.resolve()))


def measure(work: Path) -> bool:
    """Build and run everything, and print the report. Returns whether it is as it should be."""
    work.mkdir(parents=True, exist_ok=True)
    programs = Programs(work)
    for step in (read_files, misuse, run_networks, replay_fuzz_targets):
        started = time.monotonic()
        step(programs, work)
        print(f"{step.__name__}: {time.monotonic() - started:.0f} s", flush=True)
    return report(programs.counts())


def read_files(programs: Programs, work: Path) -> None:
    """The reader on everything that a reader must accept or refuse."""
    program = programs.build("read", [RUNTIME / "tests" / "read.c"])
    for path in sorted([*VECTORS.glob("*/*.sqz"), *_hostile_files(work)]):
        programs.run(program, path, codes=(0, 1))


def _hostile_files(work: Path) -> list[Path]:
    folder = work / "hostile"
    folder.mkdir(exist_ok=True)
    paths = []
    for i, file in enumerate(refused()):
        paths.append(folder / f"{i}-{file.threads}.sqz")
        paths[-1].write_bytes(file.data)
    return paths


def misuse(programs: Programs, work: Path) -> None:
    """Wrong use, with the golden files and with random networks."""
    program = programs.build("misuse", (RUNTIME / "tests" / "misuse").glob("*.c"))
    accept = VECTORS / "accept"
    programs.run(program, accept / "integer.sqz", accept / "codebook.sqz")
    for seed in NETWORKS:
        model = work / f"random{seed}.sqz"
        model.write_bytes(encode(random_network(seed)))
        for group in ("options", "threads"):
            programs.run(program, model, accept / "codebook.sqz", group)


def run_networks(programs: Programs, work: Path) -> None:
    """Networks in every mode, and files that the client must refuse.

    ``tests.runtime`` compares the logits, and the errors.
    """
    program = programs.build("run", [RUNTIME / "tests" / "run.c"])
    picture = work / "picture.ppm"
    picture.write_bytes(b"P6 2 1 255 abcdef")
    for path in sorted([*VECTORS.glob("*/*.sqz"), *_hostile_files(work)]):
        tasks = path.stem.partition("-")[2] or "1"
        for mode in ("loaded", "streamed"):
            programs.run(program, path, picture, "fastest", mode, tasks, codes=(0, 1))
    for i, model in enumerate(extreme_models().values()):
        path = work / f"extreme{i}.sqz"
        path.write_bytes(encode(model))
        programs.run(program, path, picture)
    for name in (*(f"random{seed}" for seed in SEEDS), PRESETS[0]):
        made = case(name, work / "cases")
        for pictures in ("pixels", "ppm"):
            programs.run(program, made.file("sqz"), made.file(pictures))


def replay_fuzz_targets(programs: Programs, work: Path) -> None:
    """Each fuzz target on its seeds and on mutations of them."""
    sources = [*(RUNTIME / "fuzz").glob("*.c"), RUNTIME / "tests" / "replay.c"]
    for target in fuzz.TARGETS:
        flags = ("-DSQZ_NO_CHECKSUMS", f"-DTARGET=target_{target}")
        program = programs.build(f"replay_{target}", sources, *flags)
        folder = work / f"seeds_{target}"
        folder.mkdir(exist_ok=True)
        files = []
        for i, seed in enumerate(fuzz.seeds(target)):
            files.append(folder / f"{i}")
            files[-1].write_bytes(seed)
        programs.run(program, str(MUTATIONS[target]), *files)


def report(counts: dict[Branch, int]) -> bool:
    """Print the table and what is not reached. Returns whether that is as it should be."""
    counts = {
        branch: count
        for branch, count in counts.items()
        if branch.file.startswith("src/") or branch.file == "kernels/sqz_portable.c"
    }
    missed = sorted(branch for branch, count in counts.items() if not count)
    print("\n| file | branches | reached | % |\n|---|--:|--:|--:|")
    for file in (*sorted({branch.file for branch in counts}), None):
        of_file = [branch for branch in counts if file in (None, branch.file)]
        reached = sum(counts[branch] > 0 for branch in of_file)
        percent = 100 * reached / len(of_file)
        print(f"| {file or 'all'} | {len(of_file)} | {reached} | {percent:.1f} |")
    good = percent >= MIN_PERCENT
    print("\nNot reached:")
    for branch in missed:
        lines = (RUNTIME / branch.file).read_text().splitlines()
        text = lines[branch.line - 1][branch.column - 1 :]
        if branch.end_line == branch.line:
            text = lines[branch.line - 1][branch.column - 1 : branch.end_column - 1]
        reason = UNREACHED.get((branch.file, text))
        outcome = "true" if branch.outcome else "false"
        print(
            f"- {branch.file}:{branch.line}: `{text}` is never {outcome}: {reason or 'NO REASON'}"
        )
        good &= reason is not None
    return good


if __name__ == "__main__":
    main()
