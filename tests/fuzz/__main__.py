"""Fuzz readers of files, guided by coverage.

    python -m tests.fuzz [TARGET ...] [--minutes 10] [--seed 1]
    python -m tests.fuzz TARGET --replay FILE

Needs ``pip install atheris==3.0.0``, which nothing else needs. Seeds are made by our own code into
``build/fuzz/TARGET/seeds``; what reaches new code stays in ``corpus`` beside it, and the next run
begins from it. A finding stays in ``findings`` and ends its target; the end of ``log`` says what it
is and how to replay it. Exit code 1 if there was one.

Our package and the Python of Pillow and safetensors are instrumented; what they have in C is not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

NAMES = ("pictures", "pth", "safetensors", "onnx", "net", "run-folder", "work-folder")
ROOT = Path("build", "fuzz")
SECONDS_PER_INPUT = 60
"""By the clock, where the machine is busy; ``contract.MAX_SECONDS`` is of processor time."""
MAX_RESIDENT_MB = 2048
"""The process, with torch in it and what coverage needs."""
MAX_BYTES = 1 << 19
"""More than any seed has."""
INPUTS_PER_LINE = 1000
INSTRUMENTED = ("squeezenet", "PIL", "safetensors")
"""Not NumPy: Atheris 3.0.0 loses 70 KB per call there, which ends a run after some minutes."""
_WORK = "SQUEEZENET_FUZZ_WORK"
"""Tells the process that fuzzes which folder is its own."""
_GIVE_MEMORY_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
"""For glibc: else the process grows by what lies between large blocks."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz readers of files, guided by coverage.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer")
    parser.add_argument("--replay", type=Path, help="read this one file, and say what happens")
    options = parser.parse_args()
    targets = options.targets or NAMES
    if unknown := [each for each in targets if each not in NAMES]:
        parser.error(f"no target {unknown[0]!r}; expected some of {', '.join(NAMES)}")
    if options.replay is not None:
        return _replay(targets[0], options.replay)
    seconds = round(60 * options.minutes)
    if work := os.environ.get(_WORK):
        return _fuzz(targets[0], seconds, options.seed, Path(work))
    found = [each for each in targets if not _fuzz_apart(each, seconds, options.seed)]
    return int(bool(found))


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder in memory where there is one: fsync on a disk takes longer than reading."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    return tempfile.TemporaryDirectory(prefix="squeezenet-fuzz-", dir=place)


def _replay(name: str, file: Path) -> int:
    from tests.fuzz.targets import TARGETS

    with _work_folder() as work:
        print(TARGETS[name].check(file.read_bytes(), Path(work)))
    return 0


def _fuzz_apart(name: str, seconds: int, seed: int) -> bool:
    """Fuzz a target in a process of its own, which libFuzzer ends; whether it found nothing."""
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", name, f"--minutes={seconds / 60}"]
    started = time.monotonic()
    with _work_folder() as work, (folder / "log").open("wb") as log:
        own = {_WORK: work, "TMPDIR": work, **_GIVE_MEMORY_BACK}
        done = subprocess.run(
            [*command, f"--seed={seed}"], env=os.environ | own, stdout=log, stderr=log
        )
    took = time.monotonic() - started
    text = (folder / "log").read_text(encoding="utf-8", errors="replace")
    runs = re.findall(r"^#(\d+)|number_of_executed_units: (\d+)", text, re.MULTILINE)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", text)
    results = re.findall(rf"^{name}: (.*)$", text, re.MULTILINE)
    edges, features = reached[-1] if reached else ("?", "?")
    print(
        f"{name}: {''.join(runs[-1]) if runs else '?'} runs in {took:.0f} s, {edges} edges and "
        f"{features} features reached, {results[-1] if results else '?'}, exit {done.returncode}",
        flush=True,
    )
    if done.returncode:
        print(f"{text[-3000:]}\nsee {folder / 'log'}", file=sys.stderr)
    return done.returncode == 0


def _fuzz(name: str, seconds: int, seed: int, work: Path) -> int:
    try:
        import atheris
    except ImportError:
        print("tests.fuzz: atheris is missing; pip install atheris==3.0.0", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    folder = ROOT / name
    corpus, made, findings = folder / "corpus", folder / "seeds", folder / "findings"
    for each in (corpus, made, findings):
        each.mkdir(parents=True, exist_ok=True)
    for old in made.iterdir():
        old.unlink()
    for i, content in enumerate(target.seeds()):
        (made / f"{i:03d}").write_bytes(content)
    results: Counter[str] = Counter()

    def test_one_input(data: bytes) -> None:
        try:
            results[target.check(data, work)] += 1
        except BaseException:
            traceback.print_exc()
            finding = findings / f"crash-{hashlib.sha1(data).hexdigest()}"
            print(f"replay: python -m tests.fuzz {name} --replay {finding}", flush=True)
            raise
        if not results.total() % INPUTS_PER_LINE:
            print(f"{name}: {dict(results)}", flush=True)

    def mutator(data: bytes, max_bytes: int, seed: int) -> bytes:
        def change(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, len(part) + 4096))

        return target.mutate(data, random.Random(seed), change)[:max_bytes]

    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={MAX_BYTES}",
        f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MAX_RESIDENT_MB}",
        f"-artifact_prefix={findings}/", "-print_final_stats=1", "-len_control=0",
        "-keep_seed=1",  # though all reach the same code, each is changed in other places
        str(corpus), str(made),
    ]  # fmt: skip
    atheris.Setup(arguments, test_one_input, custom_mutator=mutator)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
