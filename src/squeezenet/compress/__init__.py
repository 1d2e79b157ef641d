"""Trained model -> quantized weights, small enough to code tightly.

In:  a ``LoadedModel``, images to learn from and images to measure with (``images``).
Out: a ``CompressedModel`` for the codec, and the table of stages (``stage_table``).

``run`` is what ``squeezenet compress`` does, whatever the method. Both methods take a
``CompressionJob`` (``job``):

``rate_distortion``   "rd": integer levels by rate-distortion optimisation.
``deep_compression``  "deep-compression": prune, share weights, code (arXiv 1510.00149).

They share ``prune``, ``retrain`` (by distillation) and ``compressed_network``, which trains the
weights that a file will hold. ``calibrate`` finds the scales of 8-bit activations.
``measurement`` and ``report`` say what the file is worth.
"""
