"""The command line, with published weights that need no network: for tests of the documents.

A squeezenet1_1 with random weights is put into the cache in place of the fetched file, under a hash
of its own. Everything else is as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib

import torch

from squeezenet.__main__ import main
from squeezenet.arch.presets import preset
from squeezenet.download import cache_folder
from squeezenet.model import published
from squeezenet.model.init import initialise
from squeezenet.model.network import build_module

NAME = "squeezenet1_1"


def put_into_cache() -> None:
    folder = cache_folder()
    known = published.PUBLISHED[NAME]
    path = folder / known.file_name
    if not path.is_file():
        spec = preset(NAME)
        module = build_module(spec)
        initialise(module, spec, "he", seed=0)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(module.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    published.PUBLISHED[NAME] = dataclasses.replace(known, sha256=sha256)


if __name__ == "__main__":
    put_into_cache()
    main()
