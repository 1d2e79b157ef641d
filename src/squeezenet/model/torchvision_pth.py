"""torchvision's SqueezeNet ``.pth`` files, read without executing a pickle's code."""

from __future__ import annotations

import dataclasses
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import IO

import torch

from squeezenet.arch.graph import build_graph
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import HeadSpec, SqueezeNetSpec
from squeezenet.errors import MalformedError, WeightsError
from squeezenet.model.loaded import LoadedModel, from_state

_LEGACY_PICKLES = 5
"""torch's format before 1.6: magic number, protocol, system, the object, keys of its storages."""
_MAX_OPERATIONS = 1_000_000
"""The state_dict of torchvision's SqueezeNets takes about 2,300."""
_MAX_SHARED_TUPLES = 40
"""With this many, the largest nested tuple has 3^13 elements."""
_NO_TUPLES = {
    "BINUNICODE", "SHORT_BINSTRING", "GLOBAL", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "REDUCE",
}  # fmt: skip
"""Pickle operations whose result is not a tuple."""
_ARCHITECTURES = ("squeezenet1_0", "squeezenet1_1")


def load_pth(path: Path, arch: str | None = None) -> LoadedModel:
    """Read a state_dict that torch saved; without ``arch``, the first layer's shape decides.

    The network has torchvision's ReLU after the last convolution, as its weights were trained with
    it. 1000 classes are ImageNet's; other numbers of classes are named class0, class1, ...

    Raises:
        MalformedError: the file is damaged, or holds anything but tensors.
        WeightsError: it holds the weights of another network.
    """
    state = _read_state(path)
    if "classifier.6.weight" in state and "features.10.weight" in state:
        raise WeightsError(
            f"{path}: torchvision's alexnet, which has no groups and is another network than "
            "Caffe's AlexNet, the baseline here; expected squeezenet1_0 or squeezenet1_1"
        )
    name = arch or _guess(state, path)
    head = state.get("classifier.1.weight")
    num_classes = head.shape[0] if head is not None and head.ndim == 4 else 1000
    spec = preset(name, num_classes=num_classes)
    if not isinstance(spec, SqueezeNetSpec):
        raise WeightsError(f"{path}: --arch {name}, expected one of torchvision's SqueezeNets")
    batch_norm = "features.conv1_bn.weight" in state
    spec = dataclasses.replace(spec, head=HeadSpec(last_relu=True), batch_norm=batch_norm)
    names, ids = imagenet_classes()
    if num_classes != len(names):
        names, ids = tuple(f"class{i}" for i in range(num_classes)), ()
    record = ModelRecord(
        spec=spec,
        preprocessing=torchvision_preprocessing(),
        class_names=names,
        class_ids=ids,
        provenance={"source": path.name, "method": "torchvision state_dict"},
    )
    others = [other for other in _ARCHITECTURES if other != name]
    return from_state(record, state, str(path), advice=f"is it --arch {others[0]}?")


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise MalformedError(
                        f"{path}: a compressed archive, which torch does not write; it may be an "
                        "attack"
                    )
                for entry in archive.infolist():
                    if entry.filename.endswith("data.pkl"):
                        with archive.open(entry) as pickle:
                            _refuse_shared_tuples(pickle, path)
        else:
            with path.open("rb") as file:
                for _ in range(_LEGACY_PICKLES):
                    _refuse_shared_tuples(file, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(path, map_location="cpu", weights_only=True)
    except MalformedError:
        raise
    except Exception as error:
        # Damaged archives raise RuntimeError, EOFError, KeyError, UnpicklingError, ... A pickle
        # with forbidden objects raises UnpicklingError, with a page on how to load it anyway; one
        # that does not begin as torch's do raises ValueError.
        text = str(error)
        if (
            isinstance(error, ValueError)
            or "Unsupported" in text
            or "Weights only load failed" in text
        ):
            reason = "it holds something else than tensors, which may be an attack, or is damaged"
        else:
            reason = "it is damaged or cut short; copy it again"
        raise MalformedError(f"{path}: not a .pth file that can be read: {reason}") from None
    if isinstance(data, dict) and isinstance(data.get("state_dict"), dict):
        data = data["state_dict"]
    if not isinstance(data, dict) or not data:
        raise WeightsError(f"{path}: holds no state_dict")
    state = {}
    for key, tensor in data.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{path}: entry {key!r} is not a tensor; expected a state_dict")
        state[key.removeprefix("module.")] = tensor
    return state


def _refuse_shared_tuples(pickle: IO[bytes], path: Path) -> None:
    """Refuse a pickle that refers to its tuples many times.

    Forty tuples, each twice inside the next, make a dictionary key whose hash takes hours. A few
    references are normal: an optimiser's settings share tuples.
    """
    tuples: set[object] = set()
    num_shared = 0
    before = ""
    for num, (operation, argument, _) in enumerate(pickletools.genops(pickle)):
        name = operation.name
        if name in ("BINPUT", "LONG_BINPUT"):
            if before in _NO_TUPLES:
                tuples.discard(argument)
            else:
                tuples.add(argument)
        num_shared += name in ("BINGET", "LONG_BINGET") and argument in tuples
        if num > _MAX_OPERATIONS or num_shared > _MAX_SHARED_TUPLES:
            raise MalformedError(f"{path}: not a .pth file that torch wrote; it may be an attack")
        before = name


def _guess(state: dict[str, torch.Tensor], path: Path) -> str:
    stem = state.get("features.0.weight")
    for name in _ARCHITECTURES:
        if (
            stem is not None
            and tuple(stem.shape) == build_graph(preset(name)).convs[0].weight_shape
        ):
            return name
    raise WeightsError(
        f"{path}: the state_dict of another network; expected torchvision's "
        f"{' or '.join(_ARCHITECTURES)}, or pass --arch"
    )
