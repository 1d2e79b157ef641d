"""Fuzz a reader, guided by coverage.

    python -m tests.fuzz TARGET [--minutes 10] [--seed 1]
    python -m tests.fuzz TARGET --replay FILE

Needs ``pip install atheris==3.0.0`` (not a dependency of anything else). Seeds are made by our own
code into ``build/fuzz/TARGET/seeds``; what reaches new code is kept in ``build/fuzz/TARGET/corpus``
and used by the next run. A finding stays in ``build/fuzz/TARGET/findings``, and ends the run with
the command that replays it. Our package and the Python of Pillow, safetensors and NumPy's file
formats are instrumented; what they have in C is not.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

NAMES = ("pictures", "pth", "safetensors", "net", "run-folder", "work-folder")
ROOT = Path("build", "fuzz")
SECONDS_PER_INPUT = 60
"""By the clock, where the machine is busy; ``contract.MAX_SECONDS`` is of processor time."""
MAX_RESIDENT_MB = 2048
"""The process, with torch in it and what coverage needs."""
INPUTS_PER_LINE = 1000
MAX_BYTES = 1 << 19
"""More than any seed has."""
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 1 << 16
INSTRUMENTED = ("squeezenet", "PIL", "safetensors", "numpy.lib")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz a reader, guided by coverage.")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer, for a repeatable run")
    parser.add_argument("--replay", type=Path, help="read this one file, and say what happens")
    options = parser.parse_args()
    if options.replay is not None:
        return _replay(options.target, options.replay)
    return _fuzz(options.target, round(60 * options.minutes), options.seed)


def _work_folder() -> Path:
    """A folder in memory where there is one: fsync on a disk takes longer than reading."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    return Path(tempfile.mkdtemp(prefix="squeezenet-fuzz-", dir=place))


def _give_memory_back() -> None:
    """Let glibc give large blocks back: else the process grows by what lies between them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _replay(name: str, file: Path) -> int:
    from tests.fuzz.targets import TARGETS

    work = _work_folder()
    tempfile.tempdir = str(work)
    try:
        print(TARGETS[name].check(file.read_bytes(), work))
    finally:
        shutil.rmtree(work)
    return 0


def _fuzz(name: str, seconds: int, seed: int) -> int:
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
    shutil.rmtree(made, ignore_errors=True)
    for each in (corpus, made, findings):
        each.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(target.seeds()):
        (made / f"{i:03d}").write_bytes(content)
    work = _work_folder()
    _give_memory_back()
    results: Counter[str] = Counter()

    def test_one_input(data: bytes) -> None:
        try:
            results[target.check(data, work)] += 1
            if not results.total() % INPUTS_PER_LINE:
                print(f"{name}: {dict(results)}", flush=True)
        except BaseException:
            traceback.print_exc()
            print(f"replay: python -m tests.fuzz {name} --replay {findings}/crash-SHA1", flush=True)
            raise

    def mutator(data: bytes, max_bytes: int, seed: int) -> bytes:
        def change(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(len(part) + 4096, 64)))

        return target.mutate(data, random.Random(seed), change)[:max_bytes]

    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={MAX_BYTES}",
        f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MAX_RESIDENT_MB}",
        f"-artifact_prefix={findings}/", "-print_final_stats=1", "-len_control=0",
        str(corpus), str(made),
    ]  # fmt: skip
    atheris.Setup(arguments, test_one_input, custom_mutator=mutator, internal_libfuzzer=True)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
