"""The oracle: run a compressed model in plain NumPy, written to be read.

In:  a ``codec.CompressedModel`` and cropped pixels (N, H, W, C).
Out: logits (N, K). ``integer_interpreter``: every integer client must equal it bit for bit.
     ``float_interpreter``: the same network in float32.
"""
