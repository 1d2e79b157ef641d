"""Lifetimes of tensors, and the peak activation memory that follows from them.

A tensor is alive from the first operation that writes it to the last that reads it. This module
neither places buffers nor fuses operations; the client does.
"""

from __future__ import annotations

from itertools import accumulate

from squeezenet.arch.graph import Graph, iter_reads


def lifetimes(graph: Graph) -> dict[str, tuple[int, int]]:
    """Return the first and last operation (index, inclusive) during which each tensor is alive.

    The input exists before operation 0; the output lives to the end.
    """
    spans = {graph.input: (0, 0)}
    for i, op in enumerate(graph.operations):
        for name in iter_reads(op):
            spans[name] = (spans[name][0], i)
        spans.setdefault(op.target, (i, i))
    spans[graph.output] = (spans[graph.output][0], len(graph.operations) - 1)
    return spans


def live_activation_bytes(graph: Graph, *, element_bytes: int = 1) -> list[int]:
    """Return the size in bytes of all tensors alive during each operation.

    A value of a tensor takes ``element_bytes``, by default one.
    """
    changes = [0] * (len(graph.operations) + 1)
    for name, (first, last) in lifetimes(graph).items():
        changes[first] += graph.tensors[name].num_elements
        changes[last + 1] -= graph.tensors[name].num_elements
    return [element_bytes * num_elements for num_elements in accumulate(changes[:-1])]


def peak_activation_bytes(graph: Graph, *, element_bytes: int = 1) -> int:
    """Return the peak size in bytes of all tensors alive at once (default: one byte each)."""
    return max(live_activation_bytes(graph, element_bytes=element_bytes))
