"""Weights of others: a SqueezeNet with torchvision's names, in a ``.pth`` or ``.safetensors``.

No record comes with them, so the shapes say which network it is, and preprocessing is
torchvision's. Class names are the caller's, else those of the file, else ImageNet's for 1,000
classes, else class0, class1, ... What a file has beside the weights is not read, and that is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from squeezenet.arch.class_labels import ClassLabels, numbered_classes, ordered_names
from squeezenet.arch.graph import build_graph
from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.labels import check_labels
from squeezenet.arch.preprocessing import default_preprocessing, torchvision_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import HeadSpec, SqueezeNetSpec
from squeezenet.errors import ClassCountError, MalformedError, SpecError, WeightsError
from squeezenet.model.loaded import LoadedModel, from_state
from squeezenet.model.pickles import Instance
from squeezenet.model.state_dict import Weights, find_weights
from squeezenet.model.torch_file import StoredTensor, TorchFileError, read_torch_file
from squeezenet.progress import Progress, SilentProgress

_ARCHITECTURES = ("squeezenet1_0", "squeezenet1_1")
_HEAD = "classifier.1.weight"
_NAME_KEYS = ("class_to_idx", "classes", "class_names", "CLASSES", "idx_to_class", "id2label")
"""Where programs keep the names of classes, beside the weights."""
_SETTINGS_KEYS = ("meta", "hyper_parameters", "hparams", "args", "config")
"""Dictionaries and objects beside the weights in which such names may be, too."""
_NAMES_SHOWN = 6
_MAX_NEAR = 4
"""Dictionaries around the weights in which names are looked for."""
_SAVE = "save model.state_dict() with torch.save"


def load_pth(
    path: Path,
    arch: str | None = None,
    *,
    labels: ClassLabels | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Read weights that torch saved, without executing anything of the file; see ``load_foreign``.

    Raises:
        MalformedError: the file is damaged, or not one that torch writes.
        WeightsError: it holds no weights, or those of another network.
        ClassCountError: ``labels`` are not as many as the network's outputs.
    """
    with path.open("rb") as file:
        try:
            content = read_torch_file(file)
            return load_foreign(path, content, arch, labels=labels, progress=progress)
        except TorchFileError as error:
            raise MalformedError(
                f"{path}: not a .pth file that can be read: it {error}; copy it again, or {_SAVE}"
            ) from None


def load_foreign(
    path: Path,
    content: object,
    arch: str | None = None,
    *,
    labels: ClassLabels | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Build the network whose weights are somewhere in ``content``.

    Without ``arch`` the first layer's shape decides. The network has torchvision's ReLU after the
    last convolution, as its weights were trained with it. ``progress`` is told what was left
    unread. Errors as ``load_pth``'s.
    """
    found = find_weights(content)
    if not found:
        raise WeightsError(f"{path}: {_nothing_found(content)}; {_SAVE}")
    complete = [weights for weights in found if _fits(weights, arch)] or found
    weights = min(complete, key=lambda each: (each.is_average, not each.has_usual_name))
    spec = _spec(weights, arch, path)
    labels, note = _labels(weights, spec, labels, path)
    record = ModelRecord(
        spec=spec,
        preprocessing=(
            torchvision_preprocessing()
            if spec.name in _ARCHITECTURES
            else default_preprocessing(spec)
        ),
        class_names=labels.names,
        class_ids=labels.ids,
        provenance={"source": _printable(path.name), "method": "torchvision state_dict"},
    )
    [other, *_] = [other for other in _ARCHITECTURES if other != spec.name]
    advice = f"is it --arch {other}?" if arch is not None else ""
    model = from_state(record, _tensors(weights, spec, path), str(path), advice)
    others = [each for each in complete if each is not weights]
    if said := _what_was_read(weights, others, note):
        (progress or SilentProgress()).log(f"{path}: {said}")
    return model


def _fits(weights: Weights, arch: str | None) -> bool:
    """Whether these are all weights of a network, of the right shapes."""
    try:
        expected = _shapes(_spec(weights, arch, Path()))
    except (WeightsError, SpecError):
        return False
    found = {key: getattr(leaf, "shape", None) for key, leaf in weights.state.items()}
    return all(
        key in found and tuple(found[key] or ()) == shape
        for key, shape in expected.items()
        if not key.endswith("num_batches_tracked")
    )


def _spec(weights: Weights, arch: str | None, path: Path) -> SqueezeNetSpec:
    """Return the network that weights are of, by their shapes.

    Raises:
        WeightsError: another one.
    """
    state = weights.state
    if "classifier.6.weight" in state and "features.10.weight" in state:
        raise WeightsError(
            f"{path}: torchvision's alexnet, which has no groups and is another network than "
            "Caffe's AlexNet, the baseline here; expected squeezenet1_0 or squeezenet1_1"
        )
    name = arch or _guess(weights, path)
    head = state.get(_HEAD)
    num_classes = 1000
    if isinstance(head, (StoredTensor, torch.Tensor)) and len(head.shape) == 4:
        num_classes = int(head.shape[0])
    spec = preset(name, num_classes=num_classes)
    if not isinstance(spec, SqueezeNetSpec):
        raise WeightsError(f"{path}: --arch {name}, expected one of torchvision's SqueezeNets")
    batch_norm = "features.conv1_bn.weight" in state
    head_spec = HeadSpec(last_relu=True) if name in _ARCHITECTURES else spec.head
    return dataclasses.replace(spec, head=head_spec, batch_norm=batch_norm)


def _guess(weights: Weights, path: Path) -> str:
    stem = weights.state.get("features.0.weight")
    for name in _ARCHITECTURES:
        if isinstance(stem, (StoredTensor, torch.Tensor)):
            if tuple(stem.shape) == build_graph(preset(name)).convs[0].weight_shape:
                return name
        elif isinstance(stem, Instance):
            raise WeightsError(f"{path}: features.0.weight {_not_plain(stem)}")
    raise WeightsError(
        f"{path}: the state_dict of another network; expected torchvision's "
        f"{' or '.join(_ARCHITECTURES)}, or pass --arch"
    )


def _shapes(spec: SqueezeNetSpec) -> dict[str, tuple[int, ...]]:
    """Return the keys of the network's state_dict with the shapes of their tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for conv in build_graph(spec).convs:
        shapes[f"{conv.key}.weight"] = conv.weight_shape
        if conv.norm_key is None:
            shapes[f"{conv.key}.bias"] = (conv.out_channels,)
            continue
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{conv.norm_key}.{part}"] = (conv.out_channels,)
        shapes[f"{conv.norm_key}.num_batches_tracked"] = ()
    return shapes


def _tensors(weights: Weights, spec: SqueezeNetSpec, path: Path) -> dict[str, torch.Tensor]:
    """Read the network's tensors.

    Raises:
        WeightsError: one is of a kind that is not read, or there are more than the network's.
    """
    expected = _shapes(spec)
    state: dict[str, torch.Tensor] = {}
    unknown = list(weights.extra)
    for key, leaf in weights.state.items():
        if key not in expected:
            unknown += [] if isinstance(leaf, Instance) else [key]
        elif isinstance(leaf, Instance):
            raise WeightsError(f"{path}: {key} {_not_plain(leaf)}")
        else:
            state[key] = leaf.read() if isinstance(leaf, StoredTensor) else leaf
    unknown = [key for key in unknown if not key.endswith(("num_batches_tracked", "n_averaged"))]
    if unknown and set(expected) <= set(state):
        raise WeightsError(
            f"{path}: key {_printable(unknown[0])!r} is not part of {spec.name}; expected the "
            "weights of the network alone"
        )
    for key in expected:  # which training counts, and nothing else uses
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros((), dtype=torch.int64))
    return state


def _labels(
    weights: Weights, spec: SqueezeNetSpec, given: ClassLabels | None, path: Path
) -> tuple[ClassLabels, str]:
    """Return the classes, and what to say about names in the file.

    Raises:
        ClassCountError: not as many were given as the network has outputs.
    """
    num_classes = spec.num_classes
    if given is not None:
        if len(given.names) != num_classes:
            raise ClassCountError(
                f"{path}: the network has {num_classes} outputs, --classes names {len(given.names)}"
            )
        return given, ""
    note = ""
    for place, names in _names_beside(weights):
        try:
            check_labels(names, (), num_classes, place)
        except SpecError as error:
            note = f"its class names were not used: {error}"
            continue
        return ClassLabels(names=names), f"class names from {place!r}"
    names, ids = imagenet_classes()
    if num_classes == len(names):
        return ClassLabels(names=names, ids=ids), note
    return ClassLabels(names=numbered_classes(num_classes)), note


def _names_beside(weights: Weights) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Find lists of class names near the weights: (where, names)."""
    for _, around in weights.around[: -_MAX_NEAR - 1 : -1]:
        places: list[tuple[str, Mapping[Any, Any]]] = [("", around)]
        for key in _SETTINGS_KEYS:
            inside = around.get(key)
            inside = inside.state or inside.entries if isinstance(inside, Instance) else inside
            if isinstance(inside, dict):
                places.append((f"{key}.", inside))
        for prefix, mapping in places:
            for key in _NAME_KEYS:
                if names := ordered_names(mapping.get(key)):
                    yield prefix + key, names


def _what_was_read(weights: Weights, others: list[Weights], note: str) -> str:
    """Say in a line which weights were read and what was not; nothing of a bare state_dict."""
    unread = []
    places = [weights.place, *(each.place for each in others)]
    for path, around in weights.around:
        if "_modules" in around:  # a saved module's own attributes
            continue
        for key, value in around.items():
            own = f"{path}.{key}" if path else str(key)
            leads_there = any(f"{place}.".startswith(f"{own}.") for place in places)
            if not leads_there and isinstance(key, str) and not _is_tensor_or_own(value, key):
                kind = f" ({value.class_name})" if isinstance(value, Instance) else ""
                unread.append(_printable(f"{key}{kind}"))
    parts = [note] if note else []
    if unread:
        dots = ", ..." if len(unread) > _NAMES_SHOWN else ""
        parts.append(f"not read: {', '.join(unread[:_NAMES_SHOWN])}{dots}")
    if others:
        named = ", ".join(repr(_printable(each.place)) for each in others[:_NAMES_SHOWN])
        parts.append(f"other weights are under {named}")
    if not parts:
        return ""
    place = f"weights under {_printable(weights.place)!r}" if weights.place else "the weights"
    return f"read {place}; {'; '.join(parts)}"


def _is_tensor_or_own(value: object, key: str) -> bool:
    """Whether a value is one of the state_dict itself, or a private part of a module."""
    if isinstance(value, (StoredTensor, torch.Tensor)) or key.startswith("_"):
        return True
    return key in ("training", "features", "classifier", *_NAME_KEYS)


def _nothing_found(content: object) -> str:
    values = content.values() if isinstance(content, dict) else (content,)
    objects = dict.fromkeys(each.class_name for each in values if isinstance(each, Instance))
    if objects:
        names = ", ".join(_printable(name) for name in list(objects)[:_NAMES_SHOWN])
        return (
            f"holds no weights of a SqueezeNet, but something else than tensors ({names}), which "
            "was not run and may be an attack"
        )
    if isinstance(content, dict) and any(
        isinstance(value, (StoredTensor, torch.Tensor, dict)) for value in content.values()
    ):
        return "the state_dict of another network; expected torchvision's " + " or ".join(
            _ARCHITECTURES
        )
    return "holds no state_dict"


def _not_plain(leaf: Instance) -> str:
    return (
        f"is not a plain tensor of numbers ({_printable(leaf.class_name)}), which may be an attack"
    )


def _printable(text: str) -> str:
    return "".join(c for c in text[:60] if c.isprintable())
