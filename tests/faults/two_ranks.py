"""Runs a command of squeezenet as two ranks, as two machines would without torchrun.

    python -m tests.faults.two_ranks train ...

Ends with the largest exit code of the two.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.ports import free_port

NUM_RANKS = 2


def main() -> int:
    job = {
        "WORLD_SIZE": str(NUM_RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "squeezenet", *sys.argv[1:]],
            env=os.environ | job | {"RANK": str(rank)},
        )
        for rank in range(NUM_RANKS)
    ]
    return max(process.wait() for process in processes)


if __name__ == "__main__":
    sys.exit(main())
