"""Which tensor is alive when: the least activation memory in which a client can run a network.

A tensor lives from the first operation that writes it to the last that reads it. This counts
whole tensors; it places no buffers and fuses nothing, which is the client's business.
"""

from __future__ import annotations

from squeezenet.arch.graph import Graph, iter_reads


def lifetimes(graph: Graph) -> dict[str, tuple[int, int]]:
    """First and last operation (index, inclusive) during which each tensor must be held.

    The input is there before operation 0; the output is held to the end.
    """
    spans = {graph.input: (0, 0)}
    for i, op in enumerate(graph.operations):
        for name in iter_reads(op):
            spans[name] = (spans[name][0], i)
        spans.setdefault(op.target, (i, i))
    spans[graph.output] = (spans[graph.output][0], len(graph.operations) - 1)
    return spans


def peak_activation_bytes(graph: Graph, *, element_bytes: int = 1) -> int:
    """Largest sum of tensors alive at once, in bytes; int8 unless ``element_bytes`` says so."""
    spans = lifetimes(graph)
    return element_bytes * max(
        sum(
            graph.tensors[name].num_elements
            for name, (first, last) in spans.items()
            if first <= i <= last
        )
        for i in range(len(graph.operations))
    )
