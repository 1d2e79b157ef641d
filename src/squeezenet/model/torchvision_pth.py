"""torchvision's SqueezeNet ``.pth`` files, read without running what a pickle may carry."""

from __future__ import annotations

import dataclasses
import warnings
import zipfile
from pathlib import Path

import torch

from squeezenet.arch.graph import build_graph
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.preprocessing import torchvision_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import HeadSpec, SqueezeNetSpec
from squeezenet.errors import MalformedError, WeightsError
from squeezenet.model.loaded import LoadedModel, from_state

_ARCHITECTURES = ("squeezenet1_0", "squeezenet1_1")


def load_pth(path: Path, arch: str | None = None) -> LoadedModel:
    """Read a state_dict that torch saved; without ``arch`` the stem's shape tells which network.

    The network gets torchvision's ReLU behind the last convolution, with which its weights
    were trained. 1000 classes are ImageNet's; others are called class0, class1, ...

    Raises:
        MalformedError: damaged, or holds anything but tensors.
        WeightsError: it is the state of another network.
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(path, map_location="cpu", weights_only=True)
    except MalformedError:
        raise
    except Exception as error:
        # Damaged archives surface as RuntimeError, EOFError, KeyError, UnpicklingError, ...;
        # forbidden pickles as UnpicklingError with a page of advice on how to run them anyway.
        text = str(error)
        if "Unsupported" in text or "Weights only load failed" in text:
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
            raise WeightsError(f"{path}: entry {key!r} is no tensor; expected a state_dict")
        state[key.removeprefix("module.")] = tensor
    return state


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
