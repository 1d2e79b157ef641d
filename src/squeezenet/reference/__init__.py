"""The oracle: run a compressed model in plain NumPy.

In:  a ``codec.CompressedModel`` and float32 input (N, C, H, W).
Out: logits (N, K). Clear before fast; every client must equal it.
"""
