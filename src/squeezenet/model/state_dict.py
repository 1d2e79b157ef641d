"""The weights of a network in whatever a program saved: under any key, with any prefix.

Every tensor has a path, such as ``state_dict.module.features.0.weight``. The network's weights are
where its first layer is: all that begins with the same prefix. So it does not matter in how many
dictionaries, modules or wrappers they are. A saved ``nn.Module`` is read as its ``state_dict()``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from squeezenet.model.pickles import Instance
from squeezenet.model.torch_file import StoredTensor

Leaf: TypeAlias = StoredTensor | torch.Tensor | Instance
"""A tensor, or an ``Instance`` where a file has a kind of tensor that is not read."""
_FIRST_LAYER = ("features", "0", "weight")
_PARTS = ("features", "classifier")
"""All keys of a SqueezeNet begin with one of these."""
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What DataParallel, torch.compile and FSDP put between the parts of a key."""
_AVERAGE = re.compile(r"(^|[._])(ema|swa|avg|average|averaged|shadow|teacher)([._]|$)")
_MAX_PATH = 512
_MAX_LEAVES = 20_000
_MAX_CONTAINERS = 50_000
_MAX_DEPTH = 32
_MAX_PLACES = 32
"""They bound the work of a hostile file; the depth is that of dictionaries and modules."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights that were found: ``state`` under the network's own keys.

    ``place`` is the path before them, ``extra`` are keys of the same dictionary that are not the
    network's, and ``around`` are the dictionaries on the way to them, by path, outermost first.
    """

    place: str
    state: dict[str, Leaf]
    extra: tuple[str, ...] = ()
    around: tuple[tuple[str, Mapping[Any, Any]], ...] = ()

    @property
    def is_average(self) -> bool:
        """Whether they are a moving average of weights, by the name of their place."""
        return _AVERAGE.search(self.place) is not None


def find_weights(content: object) -> list[Weights]:
    """Return everything in a file that has a SqueezeNet's first layer, outermost first."""
    leaves = _leaves(content)
    first_layers: dict[str, _Node] = {}
    for leaf in leaves:
        place = _place(leaf.path)
        if place is not None and len(first_layers) < _MAX_PLACES:
            first_layers.setdefault(place, leaf)
    found: list[Weights] = []
    for place, first in first_layers.items():
        state: dict[str, Leaf] = {}
        extra = []
        for leaf in leaves:
            if not leaf.path.startswith(place):
                continue
            key = _own_key(leaf.path[len(place) :])
            if key is not None:
                state.setdefault(key, leaf.value)
            elif leaf.holder is first.holder and not isinstance(leaf.value, Instance):
                extra.append(leaf.path[len(place) :])
        found.append(
            Weights(place=place.rstrip("."), state=state, extra=tuple(extra), around=first.around)
        )
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class _Node:
    """A value at a path. ``holder``: the dictionary or module whose state_dict it belongs to."""

    path: str
    value: Any
    depth: int = 0
    holder: object = None
    around: tuple[tuple[str, Mapping[Any, Any]], ...] = field(default=(), repr=False)


def _leaves(content: object) -> list[_Node]:
    """Walk through everything once, near things first."""
    leaves: list[_Node] = []
    pending = deque([iter([_Node(path="", value=content)])])
    seen: set[int] = set()
    while pending:
        for node in pending.popleft():
            value = node.value
            odd = isinstance(value, Instance) and not value.entries and not value.state
            if odd or isinstance(value, (StoredTensor, torch.Tensor)):
                leaves.append(node)
            elif id(value) not in seen and node.depth <= _MAX_DEPTH:
                seen.add(id(value))
                pending.append(_children(node, seen))
            if len(leaves) >= _MAX_LEAVES or len(seen) >= _MAX_CONTAINERS:
                return leaves
    return leaves


def _children(node: _Node, seen: set[int]) -> Iterator[_Node]:
    value = node.value
    attributes = value.state if isinstance(value, Instance) else None
    if isinstance(attributes, tuple) and attributes:
        attributes = attributes[0]  # the second half are slots
    if isinstance(attributes, dict) and isinstance(attributes.get("_modules"), dict):
        yield from _of_module(node, attributes, seen)
        return
    for mapping in (value, getattr(value, "entries", None), attributes):
        if isinstance(mapping, dict):
            around = (*node.around, (node.path, mapping))
            for key, each in _entries(mapping, value, seen):
                yield from _child(node, key, each, mapping, around)
    if isinstance(value, (list, tuple)):
        for i, each in enumerate(value):
            if _is_container(each):
                yield from _child(node, str(i), each, value, node.around)


def _entries(mapping: Any, known: object, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield what a dictionary holds, unless it was met before, as a part of another object."""
    if not isinstance(mapping, dict) or (mapping is not known and id(mapping) in seen):
        return
    seen.add(id(mapping))
    for key, each in mapping.items():
        if _is_container(each) and isinstance(key, (str, int)):
            yield str(key), each


def _of_module(node: _Node, attributes: dict[Any, Any], seen: set[int]) -> Iterator[_Node]:
    """Go into a saved module: its parameters and buffers, then the modules inside of it."""
    inside = isinstance(node.holder, _ModuleTree)
    holder = node.holder if inside else _ModuleTree()
    around = node.around if inside else (*node.around, (node.path, attributes))
    for part in ("_parameters", "_buffers", "_modules"):
        for key, each in _entries(attributes.get(part), None, seen):
            yield from _child(node, key, each, holder, around)


class _ModuleTree:
    """The modules of one saved ``nn.Module``: their tensors are one state_dict."""


def _child(
    node: _Node,
    key: str,
    value: Any,
    holder: object,
    around: tuple[tuple[str, Mapping[Any, Any]], ...],
) -> Iterator[_Node]:
    path = f"{node.path}.{key}" if node.path else key
    if len(path) <= _MAX_PATH:
        yield _Node(path=path, value=value, depth=node.depth + 1, holder=holder, around=around)


def _is_container(value: Any) -> bool:
    if isinstance(value, (dict, list, tuple)):
        return len(value) > 0
    return isinstance(value, (Instance, StoredTensor, torch.Tensor))


def _place(path: str) -> str | None:
    """What stands before the first layer's key, with its last point; None for other paths."""
    if not path.endswith(_FIRST_LAYER[-1]):
        return None
    parts = path.split(".")
    for i in reversed(range(len(parts))):
        if parts[i] == _FIRST_LAYER[0]:
            own = tuple(part for part in parts[i:] if part not in _WRAPPERS)
            return "".join(f"{part}." for part in parts[:i]) if own == _FIRST_LAYER else None
    return None


def _own_key(key: str) -> str | None:
    """Return the key without wrappers if it can be one of the network's."""
    parts = key.split(".")
    if parts[0] not in _PARTS:
        return None
    return ".".join(part for part in parts if part not in _WRAPPERS)
