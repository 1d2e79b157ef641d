"""Trained model -> codes and codebooks, small enough to code tightly.

In:  a ``LoadedModel``, images to retrain with and images to measure with (``images``).
Out: a ``CompressedModel`` for the codec, and the table of stages (``stage_table``).

The paper's Deep Compression is three modules: ``prune`` (with ``sensitivity`` to choose the
densities), ``share``, and the codec's entropy coding; ``deep_compression`` puts them in order,
``run`` is what ``squeezenet compress`` does, whatever the method.
"""
