"""Hold the runtime in C against the oracle on every target; exit code 1 if one differs.

    python -m tests.runtime.targets.run                     all targets
    python -m tests.runtime.targets.run --only arm s390x    some
    python -m tests.runtime.targets.run --model M.sqz --picture P.jpg Q.jpg     with this model too

Missing compilers and emulators are installed from Debian, and one from PyPI. Firmware for the
Cortex-M runs the large network, ``squeezenet1_1`` with random weights, or the model that is given.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from squeezenet.client import STACK_BYTES
from tests.runtime.targets import firmware, programs, reader
from tests.runtime.targets.cases import LARGE, PRESETS, SEEDS, Case, case, given_case
from tests.runtime.targets.tools import TargetError

WORK = Path("build") / "targets"
NUM_FIRMWARE_SEEDS = 5


def main() -> None:
    all_targets = (*programs.PROGRAMS, reader.Reader(), *firmware.BOARDS)
    targets = {each.name: each for each in all_targets}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=targets, default=[*targets])
    parser.add_argument("--model", type=Path, help="a .sqz file to run as well")
    parser.add_argument("--picture", type=Path, nargs="+", help="pictures for it")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder to work in ({WORK})")
    options = parser.parse_args()
    if (options.model is None) != (options.picture is None):
        parser.error("--model and --picture go together")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    given = [
        given_case(options.model, picture, work / "cases") for picture in options.picture or ()
    ]
    failed = []
    for name in options.only:
        target = targets[name]
        print(f"{name}: {target.about}", flush=True)
        started = time.monotonic()
        try:
            if isinstance(target, programs.Program):
                run_program(target, work, given)
            elif isinstance(target, reader.Reader):
                print("  " + "\n  ".join(reader.measure(work)))
            else:
                run_firmware(target, work, given)
        except TargetError as error:
            failed.append(name)
            print(f"  FAILED: {error}", flush=True)
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print("all targets give the oracle's logits")


def cases(names: list[str], work: Path, given: list[Case]) -> list[Case]:
    """Make cases by name, and add those that were given."""
    made = [case(name, work / "cases") for name in names]
    return [*made, *given]


def run_program(target: programs.Program, work: Path, given: list[Case]) -> None:
    """Run all cases as programs of one kind.

    Raises:
        TargetError: see ``programs``.
    """
    built = programs.build(target, work)
    if built is None:
        print(f"  left out: there is no {target.launcher[0]} here")
        return
    names = [*(f"random{seed}" for seed in SEEDS), PRESETS[0]]
    if not target.slow:
        names += PRESETS[1:]
    all_cases = cases(names, work, [] if target.slow else given)
    kernels, compared = set(), 0
    for each in all_cases:
        found, count = programs.check(target, built, each)
        kernels |= found
        compared += count
    print(f"  {len(all_cases)} networks, kernels {', '.join(sorted(kernels))}: {compared:,} equal")


def run_firmware(board: firmware.Board, work: Path, given: list[Case]) -> None:
    """Run cases on a board, the large ones where it is for that, and look at the size of the code.

    Raises:
        TargetError: see ``firmware``; or the code is too large.
    """
    names = [*(f"random{seed}" for seed in SEEDS[:NUM_FIRMWARE_SEEDS]), *PRESETS]
    if board.large and not given:
        names.append(LARGE)
    all_cases = cases(names, work, given if board.large else [])
    shutil.rmtree(work / board.name, ignore_errors=True)  # perhaps built by other flags
    for each in all_cases:
        run = firmware.run(board, each, work)
        print(
            f"  {each.name} by {run.kernels}: {each.picture_K.size} logits equal, {run.answer}; "
            f"tables {run.tables_bytes:,}, arena {run.arena_bytes:,}, stack {run.stack_bytes:,} "
            f"bytes; {run.instructions / 1e6:,.1f} million instructions",
            flush=True,
        )
        if run.stack_bytes > STACK_BYTES:
            raise TargetError(f"{each.name}: a stack of {run.stack_bytes} of {STACK_BYTES} bytes")
    runtime, support = firmware.code_bytes(board, all_cases[0], work)
    print(
        f"  code and constants at {board.optimise}: runtime {runtime:,}, support {support:,} bytes"
    )
    if board.name == "size" and runtime > firmware.MOST_CODE_BYTES:
        raise TargetError(f"the runtime has {runtime:,} of {firmware.MOST_CODE_BYTES:,} bytes")


if __name__ == "__main__":
    main()
