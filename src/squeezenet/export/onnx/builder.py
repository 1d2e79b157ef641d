"""Nodes and constants of an ONNX graph while it is built, and what both graphs have in common.

Opset 13 is the lowest with scales per output channel in ``DequantizeLinear``; IR version 7 is the
one that came with it. So engines from 2020 on read the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from squeezenet import __version__
from squeezenet.arch.graph import Conv, Graph, MaxPool

OPSET, IR_VERSION = 13, 7
INPUT, LOGITS, BATCH = "input", "logits", "N"
"""Names of the network's input and output, and of the dimension that may have any size."""


class OnnxBuilder:
    """Nodes in the order in which they run, and constants by name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node with one output, after which it is named; return the output."""
        self._nodes.append(
            helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        )
        return output

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant, or find the one of that name; return the name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def model(self, name: str, source: Any, num_classes: int, about: str) -> Any:
        """Return the ``ModelProto`` with the input ``source`` and the output ``logits`` (N, K)."""
        logits = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [BATCH, num_classes])
        graph = helper.make_graph(
            self._nodes, name, [source], [logits], list(self._constants.values())
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="squeezenet",
            producer_version=__version__,
            doc_string=about,
        )


def network_input(graph: Graph) -> Any:
    """Return the description of the input of normalised pixels: float32 (N, C, H, W)."""
    x = graph.tensors[graph.input]
    shape = [BATCH, x.channels, x.height, x.width]
    return helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)


def output_name(graph: Graph, tensor: str) -> str:
    """Return the name of a tensor's value; the last one, (N, K, 1, 1), is not yet the logits."""
    return f"{tensor}.NK11" if tensor == graph.output else tensor


def writers(graph: Graph, target: str) -> list[Conv]:
    """Return the convolutions that write slices of a tensor, by their first channel."""
    found = [conv for conv in graph.convs if conv.target == target]
    return sorted(found, key=lambda conv: conv.target_start)


def conv_attributes(op: Conv, *, padding: int) -> dict[str, Any]:
    return {
        "kernel_shape": list(op.kernel),
        "strides": [op.stride] * 2,
        "pads": [padding] * 4,
        "group": op.groups,
    }


def pool_attributes(graph: Graph, op: MaxPool) -> dict[str, Any]:
    """Pad where a last window overhangs the edge: engines differ in how they read ``ceil_mode``."""
    source, target = graph.tensors[op.source], graph.tensors[op.target]
    overhang = [
        max(0, (out - 1) * op.stride + op.kernel - side)
        for out, side in ((target.height, source.height), (target.width, source.width))
    ]
    return {
        "kernel_shape": [op.kernel] * 2,
        "strides": [op.stride] * 2,
        "pads": [0, 0, *overhang],
    }
