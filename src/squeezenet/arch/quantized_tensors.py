"""Which networks integer clients run, and which of their tensors need a scale: spec/INTEGER.md."""

from __future__ import annotations

from squeezenet.arch.graph import Add, Conv, GlobalAveragePool, Graph, MaxPool, iter_reads


def find_head(graph: Graph) -> Conv | None:
    """Return the convolution in front of the last average pool, whose sums are the logits.

    None: the network is not one for integer clients.
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
    """Return the names of the tensors whose step and zero a file holds, in the graph's order:
    those that convolutions and additions write, but for the head's."""
    head = find_head(graph)
    if head is None:
        return ()
    written = {op.target for op in graph.operations if isinstance(op, Conv | Add)}
    return tuple(name for name in graph.tensors if name in written - {head.target})


def source_of_scale(graph: Graph) -> dict[str, str]:
    """Return for every tensor the one whose step and zero it has: a max pool's its source's."""
    found = {name: name for name in graph.tensors}
    for op in graph.operations:
        if isinstance(op, MaxPool):
            found[op.target] = found[op.source]
    return found
