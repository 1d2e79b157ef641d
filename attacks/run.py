"""Run every attack and print its result; exit code 1 if one succeeds.

python attacks/run.py           all attacks
python attacks/run.py pth sqz   those with one of these words in their names
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import folders
import images
import models
import network
import shards
import torch_files
from attack import Attack, run_attack


def all_attacks() -> list[Attack]:
    """Return all attacks, in the order of README.md."""
    return [
        *models.attacks(),
        *torch_files.attacks(),
        *images.attacks(),
        *network.attacks(),
        *folders.attacks(),
        *shards.attacks(),
    ]


def main() -> None:
    words = sys.argv[1:]
    succeeded = 0
    for attack in all_attacks():
        if words and not any(word in attack.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = run_attack(attack, Path(folder))
            [first, *_] = [*outcome.output.replace(folder, "").splitlines(), ""]
        print(f"{attack.name}: {attack.goal}")
        print(f"  fails because {attack.defence}")
        print(f"  {outcome.seconds:.1f} s, {outcome.peak_bytes >> 20} MB: {first}")
        if outcome.fault is not None:
            succeeded += 1
            print(f"  SUCCEEDED: {outcome.fault}")
    sys.exit(bool(succeeded))


if __name__ == "__main__":
    main()
