"""Levels and codebooks <-> bytes: the ``.sqz`` file format.

In:  a ``CompressedModel`` (``types``): the record and, for each convolution of the graph, its bias
     and its weights as small integers with a codebook or with scales.
Out: the bytes of a ``.sqz`` file (``container``), and back, with a typed error for every invalid
     file. ``han`` reads the paper's published file into the same types; ``model_kinds``
     recognises the kind of a file from its content.
"""
