"""Search for a ``.pth`` on which the reader crashes, hangs, or takes much memory.

    python -m tests.model.fuzz_torch_file [SECONDS] [SEED]

Files that torch wrote are changed at random: bytes of the whole file, or operations of the pickle
inside a new archive. Each must load, or be refused with an error of ours, in 5 seconds of processor
time and a gigabyte. Exit code 1 with the path of the file that did not.
"""

from __future__ import annotations

import argparse
import io
import itertools
import pickletools
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from squeezenet.arch.presets import preset
from squeezenet.errors import SqueezeNetError
from squeezenet.model.foreign import load_pth
from squeezenet.model.network import build_module

_SECONDS_PER_FILE = 5.0
_MEMORY_BYTES = 1 << 30
_ARCH = "squeezenet_tiny"
"""A network of 76 KB."""


def seeds() -> list[bytes]:
    """Return small files of torch.save, in both formats."""
    state = OrderedDict([("features.0.weight", torch.ones(64, 3, 3, 3)), ("b", torch.ones(2))])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_module(preset(_ARCH))
    tiny = network.state_dict()
    contents: list[Any] = [
        state,
        tiny,
        {"net": tiny, "model_ema": {f"module.{key}": t for key, t in tiny.items()}},
        {"model": network, "class_to_idx": {"a": 0, "b": 1}},
        {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3, "classes": ["a", "b"]},
        {"state_dict": {f"module.{key}": t.half() for key, t in state.items()}},
        nn.Sequential(OrderedDict(features=nn.Sequential(nn.Conv2d(3, 64, 3)))),
        {"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=1).state_dict()},
    ]
    files = []
    for content in contents:
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            files.append(buffer.getvalue())
    return files


def changed(file: bytes, draw: random.Random) -> bytes:
    """Change some bytes, or operations of the pickle if it is an archive."""
    if file.startswith(b"PK") and draw.random() < 0.7:
        return _with_pickle_changed(file, draw)
    content = bytearray(file)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(len(content))
        kind = draw.randrange(4)
        if kind == 0:
            content[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            content[place : place + 4] = draw.choice((b"\xff" * 4, bytes(4), b"\x7f" * 4))
        elif kind == 2:
            del content[place : place + draw.randrange(1, 64)]
        else:
            other = draw.randrange(len(content))
            content[place:place] = content[other : other + draw.randrange(1, 64)]
        if not content:
            break
    return bytes(content)


def _with_pickle_changed(file: bytes, draw: random.Random) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(file))
    entries = {name: archive.read(name) for name in archive.namelist()}
    [name] = [name for name in entries if name.endswith("data.pkl")]
    places = [place for _, _, place in pickletools.genops(entries[name])]
    bounds = [*places, len(entries[name])]
    parts = [entries[name][a:b] for a, b in itertools.pairwise(bounds)]
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(parts))
        kind = draw.randrange(5)
        if kind == 0:
            del parts[place]
        elif kind == 1:
            parts.insert(place, draw.choice(parts))
        elif kind == 2:
            parts[place] = draw.choice(parts)
        elif kind == 3:
            parts.insert(place, bytes([draw.choice(b"(.012NIJKLMQRSTUVXabcdeghijlopqrstu]}")]))
        else:
            number = draw.choice((-1, 0, 255, 1 << 31, 1 << 39, 1 << 62))
            parts[place] = b"\x8a\x08" + number.to_bytes(8, "little", signed=True)
        if not parts:
            break
    entries[name] = b"".join(parts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for each, content in entries.items():
            written.writestr(each, content)
    return buffer.getvalue()


def run(
    num_files: int, seed: int, seconds: float = 1e9, seconds_per_file: float = _SECONDS_PER_FILE
) -> Path | None:
    """Try so many files, or for so long; return the one that failed, or None."""
    draw, files, results = random.Random(seed), seeds(), Counter[str]()
    path = Path(tempfile.mkdtemp()) / "x.pth"
    end = time.monotonic() + seconds
    while results.total() < num_files and time.monotonic() < end:
        path.write_bytes(changed(draw.choice(files), draw))
        started = time.process_time()
        try:
            load_pth(path, draw.choice((None, _ARCH)))
            results["loaded"] += 1
        except SqueezeNetError as error:
            results[type(error).__name__] += 1
        except Exception:
            traceback.print_exc()
            return path
        if time.process_time() - started > seconds_per_file:
            print(f"{path}: took too long", file=sys.stderr)
            return path
    print(f"{results.total():,} files from seed {seed}: {dict(results)}")
    path.unlink(missing_ok=True)
    path.parent.rmdir()
    return None


def main(seconds: float = 60.0, seed: float = 0) -> int:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = used * resource.getpagesize() + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(int(seconds) + 60)
    failed = run(1 << 60, int(seed), seconds)
    print(failed or "nothing found")
    return failed is not None


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
