"""Carry out every attack and tell what became of it; exit code 1 if one succeeds.

python attacks/run.py           all of them
python attacks/run.py pth sqz   those whose names have one of these words
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import images
import models
from attack import Attack, carry_out


def all_attacks() -> list[Attack]:
    """In the order of README.md."""
    return [*models.attacks(), *images.attacks()]


def main() -> None:
    words = sys.argv[1:]
    succeeded = 0
    for attack in all_attacks():
        if words and not any(word in attack.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = carry_out(attack, Path(folder))
            said = outcome.said.replace(folder, "").splitlines()
        print(f"{attack.name}: wants {attack.wants}")
        print(f"  fails because {attack.why}")
        print(
            f"  {outcome.seconds:.1f} s, {outcome.peak_bytes >> 20} MB: {said[0] if said else ''}"
        )
        if outcome.fault is not None:
            succeeded += 1
            print(f"  SUCCEEDED: {outcome.fault}")
    sys.exit(bool(succeeded))


if __name__ == "__main__":
    main()
