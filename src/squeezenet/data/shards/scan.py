"""Tars of others -> their part of an index: which samples they have, and where.

webdataset decides what a sample is: neighbours in the tar whose names are equal up to the first
dot. A sample that is used has one picture and a file ``cls`` with the number of its class.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
