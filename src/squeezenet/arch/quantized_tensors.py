"""Which networks integer clients run, and which tensors need a scale: spec/INTEGER.md."""

from __future__ import annotations

from squeezenet.arch.graph import Add, Conv, GlobalAveragePool, Graph, MaxPool, iter_reads


def find_head(graph: Graph) -> Conv | None:
    """Return the convolution before the final average pool; its sums are the logits.

    None means that integer clients do not run the network.
    """
    *body, last = graph.operations
    if not isinstance(last, GlobalAveragePool):
        return None
    if not all(isinstance(op, Conv | MaxPool | Add) for op in body):
        return None
    writers = [op for op in body if op.target == last.source]
    if len(writers) != 1 or not isinstance(writers[0], Conv):
        return None
    if any(last.source in iter_reads(op) for op in body):
        return None
    if any(graph.input in iter_reads(op) for op in body if not isinstance(op, Conv)):
        return None
    return writers[0]


def scaled_tensors(graph: Graph) -> tuple[str, ...]:
    """Return the names of the tensors whose scale and zero point a file stores, in graph order.

    These are the outputs of convolutions and additions, except the head's.
    """
    head = find_head(graph)
    if head is None:
        return ()
    written = {op.target for op in graph.operations if isinstance(op, Conv | Add)}
    return tuple(name for name in graph.tensors if name in written - {head.target})


def source_of_scale(graph: Graph) -> dict[str, str]:
    """Return for every tensor the tensor whose scale it uses.

    The output of a max pool has its source's scale and zero point; all others have their own.
    """
    found = {name: name for name in graph.tensors}
    for op in graph.operations:
        if isinstance(op, MaxPool):
            found[op.target] = found[op.source]
    return found
