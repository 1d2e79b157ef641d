"""Code a network's weights by NNCodec (ISO/IEC 15938-17) at several qp; runs in its environment.

    nncodec-env/bin/python bench/nncodec_coder.py weights.npz OUT -38 -36 ...

Writes OUT/qp<qp>.nnc and its decoded weights, OUT/qp<qp>.npz. NNCodec imports torchvision, loaders
for TensorFlow and more for its applications; coding does not need them. Those that are not
installed are replaced by empty modules.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

_NOT_NEEDED = frozenset(
    [
        "torchvision",
        "cv2",
        "tqdm",
        "tensorflow",
        "h5py",
        "flwr",
        "wandb",
        "sklearn",
        "pandas",
        "torchmetrics",
        "transformers",
        "sentencepiece",
        "ptflops",
        "timm",
        "ray",
        "matplotlib",
        "torchinfo",
        "datasets",
    ]
)


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Replaces the modules that are not needed by empty ones."""

    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in _NOT_NEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = MagicMock(name=spec.name)
        module.__path__ = []
        module.__spec__ = spec
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        return None


def main() -> None:
    sys.meta_path.insert(0, _Empty())
    from nncodec import nnc

    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    with np.load(sys.argv[1]) as arrays:
        weights = {name.replace("/", "."): arrays[name] for name in arrays.files}
        names = dict(zip(weights, arrays.files, strict=True))
    for qp in map(int, sys.argv[3:]):
        stream = nnc.compress(
            dict(weights), bitstream_path=str(out / f"qp{qp}.nnc"), qp=qp, nonweight_qp=-75,
            use_dq=True, return_bitstream=True, verbose=False,
        )  # fmt: skip
        decoded = nnc.decompress(stream)
        np.savez(out / f"qp{qp}.npz", **{names[k]: v for k, v in decoded.items()})
        print(qp, len(stream), flush=True)


if __name__ == "__main__":
    main()
