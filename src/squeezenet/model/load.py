"""A model argument of any kind -> a ``LoadedModel``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from squeezenet.arch.class_labels import ClassLabels
from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import with_labels
from squeezenet.codec.model_kinds import ModelKind, SourceFile, find_model, read_compressed
from squeezenet.codec.types import MAX_CODEBOOK, CompressedLayer, CompressedModel, exact_codebook
from squeezenet.errors import LossyConversionError, MalformedError, SpecError
from squeezenet.model.foreign import load_pth
from squeezenet.model.loaded import LoadedModel, from_state
from squeezenet.model.onnx_file import load_onnx
from squeezenet.model.safetensors_file import load_safetensors
from squeezenet.progress import Progress


def load_model(
    path: Path,
    arch: str | None = None,
    *,
    labels: ClassLabels | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Read a run folder (its best weights), or a file of any kind of ``ModelKind``.

    ``arch`` names the architecture of weights of others; by default their shapes decide.
    ``labels`` are the classes of a model whose file does not name them. ``progress`` is told what
    a file has beside the weights.

    Raises:
        UsageError: there is no such file, or ``labels`` for a model that names its classes.
        FormatError, WeightsError: the file is damaged, or no model.
    """
    source = find_model(path)
    try:
        model = _read(source, arch, labels, progress)
        record = model.record if labels is None else with_labels(model.record, labels, str(path))
    except SpecError as error:
        raise MalformedError(f"{source.path}: {error}") from None
    return dataclasses.replace(model, record=record, source=source)


def _read(
    source: SourceFile, arch: str | None, labels: ClassLabels | None, progress: Progress | None
) -> LoadedModel:
    if source.kind is ModelKind.SAFETENSORS:
        return load_safetensors(source.path, arch, labels=labels, progress=progress)
    if source.kind is ModelKind.TORCH_PTH:
        return load_pth(source.path, arch, labels=labels, progress=progress)
    if source.kind is ModelKind.ONNX:
        return load_onnx(source.path)
    return from_compressed(read_compressed(source))


def from_compressed(model: CompressedModel) -> LoadedModel:
    """Dequantise a compressed model into a torch module."""
    state = {}
    convs = build_graph(model.record.spec).convs
    for conv, layer in zip(convs, model.layers, strict=True):
        state[f"{conv.key}.weight"] = torch.from_numpy(layer.weights.dequantize())
        state[f"{conv.key}.bias"] = torch.from_numpy(layer.bias_O.copy())
    return from_state(model.record, state, "compressed model")


def to_compressed(model: LoadedModel, where: str) -> CompressedModel:
    """Store every layer's weights in a codebook, bit for bit.

    ``where`` names the model in error messages.

    Raises:
        LossyConversionError: it has batch normalisation, or a layer has over 255 distinct weights.
    """
    advice = "use squeezenet compress, which is allowed to change weights"
    layers = []
    for conv in build_graph(model.record.spec).convs:
        if conv.norm_key is not None:
            raise LossyConversionError(
                f"{where}: {conv.name}: has batch normalisation, which .sqz does not hold; {advice}"
            )
        layer = model.module.get_submodule(conv.key)
        weight_OIHW = torch.as_tensor(layer.weight).detach().numpy()
        weights = exact_codebook(weight_OIHW)
        if weights is None:
            raise LossyConversionError(
                f"{where}: {conv.name}: over {MAX_CODEBOOK - 1} different weights, more than a "
                f"codebook holds; {advice}"
            )
        bias_O = torch.as_tensor(layer.bias).detach().numpy().copy()
        layers.append(CompressedLayer(name=conv.name, weights=weights, bias_O=bias_O))
    return CompressedModel(record=model.record, layers=tuple(layers))
