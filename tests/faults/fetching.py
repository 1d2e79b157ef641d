"""The command line with published weights that are bytes of our own making, on a mirror."""

from __future__ import annotations

import dataclasses
import hashlib
import random

from squeezenet.model import published

NAME = "squeezenet1_1"
FILE_NAME = published.PUBLISHED[NAME].file_name
_SIZE = 3_000_000


def weights() -> bytes:
    """Return the content of the file: the same every time, no model."""
    return random.Random(0).randbytes(_SIZE)


def publish() -> None:
    """Put the hash of ``weights`` in the place of the real one."""
    sha256 = hashlib.sha256(weights()).hexdigest()
    known = published.PUBLISHED[NAME]
    published.PUBLISHED[NAME] = dataclasses.replace(known, sha256=sha256)


if __name__ == "__main__":
    from squeezenet.__main__ import main

    publish()
    main()
