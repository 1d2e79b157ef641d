"""The float32 graph: the operations of ``arch.graph`` with the weights that the file stands for.

Legend: N images; C channels, H W height and width; O output channels, I input channels of a group;
K classes.
"""

from __future__ import annotations

from squeezenet.arch.graph import (
    Add,
    Conv,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    build_graph,
)
from squeezenet.codec.types import CompressedModel
from squeezenet.export.onnx.builder import (
    LOGITS,
    OnnxBuilder,
    conv_attributes,
    output_name,
    pool_attributes,
    writers,
)


def write_float_graph(builder: OnnxBuilder, model: CompressedModel) -> None:
    """Append the network from ``input``, float32 (N, C, H, W), to ``logits``, float32 (N, K).

    Constants have the keys of the network's state_dict: ``features.0.weight``, OIHW, and
    ``features.0.bias``.
    """
    graph = build_graph(model.record.spec)
    layers = {layer.name: layer for layer in model.layers}
    for op in graph.operations:
        target = output_name(graph, op.target)
        if isinstance(op, Conv):
            layer, parts = layers[op.name], writers(graph, op.target)
            constants = [
                builder.constant(f"{op.key}.weight", layer.weights.dequantize()),
                builder.constant(f"{op.key}.bias", layer.bias_O),
            ]
            written = target if len(parts) == 1 else op.name
            builder.node(
                "Conv",
                [op.source, *constants],
                f"{written}.sum" if op.relu else written,
                **conv_attributes(op, padding=op.padding),
            )
            if op.relu:
                builder.node("Relu", [f"{written}.sum"], written)
            if len(parts) > 1 and op is parts[-1]:
                builder.node("Concat", [part.name for part in parts], target, axis=1)
        elif isinstance(op, MaxPool):
            builder.node("MaxPool", [op.source], target, **pool_attributes(graph, op))
        elif isinstance(op, Add):
            builder.node("Add", [op.source, op.other], target)
        elif isinstance(op, LocalResponseNorm):
            constants_of_norm = {"alpha": op.alpha, "beta": op.beta, "bias": 1.0}
            builder.node("LRN", [op.source], target, size=op.size, **constants_of_norm)
        else:
            assert isinstance(op, GlobalAveragePool)
            builder.node("GlobalAveragePool", [op.source], target)
    builder.node("Flatten", [output_name(graph, graph.output)], LOGITS, axis=1)
