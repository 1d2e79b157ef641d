"""A record with its torch module: the model object of training and compression."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.codec.model_kinds import SourceFile
from squeezenet.errors import WeightsError
from squeezenet.model.init import initialise_head
from squeezenet.model.network import build_module

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)
"""Accepted dtypes in a file. Each value must convert to the module's own dtype without loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """``module`` computes what ``record.spec`` describes.

    ``source`` is the file that it was read from, or None for a model made in memory.
    """

    record: ModelRecord
    module: nn.Module
    source: SourceFile | None = None

    def logits(self, x_NCHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the module in evaluation mode: float32 (N, C, H, W) -> logits (N, K)."""
        self.module.eval()
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            x = torch.from_numpy(x_NCHW).to(device, memory_format=torch.channels_last)
            return np.asarray(self.module(x).float().cpu().numpy(), np.float32)


def from_state(
    record: ModelRecord, state: Mapping[str, torch.Tensor], where: str, advice: str = ""
) -> LoadedModel:
    """Build a record's network and load a state_dict.

    ``where`` begins an error message, ``advice`` ends it.

    Raises:
        WeightsError: names the first layer that is missing, unknown or of another shape, or whose
            values are not finite or do not fit its dtype.
    """
    module = build_module(record.spec)
    own = module.state_dict()
    names = {conv.key: conv.name for conv in build_graph(record.spec).convs}
    advice = f"; {advice}" if advice else ""

    def readable(key: str) -> str:
        prefix, _, part = key.rpartition(".")
        return f"{names.get(prefix, prefix)}: {part}"

    for key, tensor in state.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_quantized or tensor.dtype not in _DTYPES:
            raise WeightsError(
                f"{where}: {readable(key)} is not a plain tensor of numbers ({tensor.dtype}, "
                f"{tensor.layout}, {tensor.device.type})"
            )
    for key, tensor in own.items():
        if key not in state:
            raise WeightsError(f"{where}: {readable(key)} is missing (key {key!r}){advice}")
        if tuple(state[key].shape) != tuple(tensor.shape):
            raise WeightsError(
                f"{where}: {readable(key)} has shape {tuple(state[key].shape)}, "
                f"expected {tuple(tensor.shape)}{advice}"
            )
        own_type = state[key].to(tensor.dtype)
        exact = tensor.dtype == state[key].dtype or torch.equal(
            own_type.to(state[key].dtype), state[key]
        )
        if not exact:
            raise WeightsError(
                f"{where}: {readable(key)} is {state[key].dtype}, which {tensor.dtype} does not "
                "hold without loss"
            )
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise WeightsError(f"{where}: key {unknown[0]!r} is not part of {record.spec.name}{advice}")
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{where}: {readable(key)} holds values that are not finite")
    module.load_state_dict(dict(state))
    return LoadedModel(record=record, module=module)


def copy_model(model: LoadedModel) -> LoadedModel:
    """Return the model with its own copy of the weights."""
    return dataclasses.replace(model, module=copy.deepcopy(model.module))


def needs_new_head(model: LoadedModel, class_names: tuple[str, ...]) -> bool:
    """Whether the model's outputs are not these classes, in this order (names or WordNet ids)."""
    return class_names not in (model.record.class_names, model.record.class_ids)


def with_new_head(model: LoadedModel, class_names: tuple[str, ...], seed: int) -> LoadedModel:
    """Return the model with an output per class name; the last layer's weights are drawn anew.

    A new head has no ReLU after it: fine-tuning through that ReLU is known to cost
    about 20 points of top-1.
    """
    record = model.record
    spec = dataclasses.replace(record.spec, num_classes=len(class_names))
    if isinstance(spec, SqueezeNetSpec):
        spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, last_relu=False))
    new_record = dataclasses.replace(record, spec=spec, class_names=class_names, class_ids=())
    module = build_module(spec)
    head = build_graph(spec).convs[-1].key
    kept = {k: v for k, v in model.module.state_dict().items() if not k.startswith(head + ".")}
    module.load_state_dict(kept, strict=False)
    initialise_head(module, spec, seed)
    return LoadedModel(record=new_record, module=module)
