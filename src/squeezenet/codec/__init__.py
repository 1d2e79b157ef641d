"""Levels and codebooks <-> bytes.

In:  a ``CompressedModel`` (``types``): the record and, for each convolution of the graph, its
     weights as small integers with a codebook or with scales, and its bias.
Out: the bytes of a ``.sqz`` file (``container``), and back, with a typed error for every file
     that is not what it should be. ``han`` reads the paper's published file into the same types;
     ``kinds`` tells what a file is from its content.
"""
