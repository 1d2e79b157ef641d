"""Method ``deep-compression`` (arXiv 1510.00149): prune, share weights, code.

In:  a ``CompressionJob`` and its ``DeepCompressionSettings``.
Out: a ``CompressedModel`` of codebooks, and the rows of its stages (``job``).

``sensitivity`` chooses densities by a scan. ``weight_sharing`` clusters the weights and trains the
centroids. Pruning and retraining are shared with method ``rd`` (``compress.prune``, ``retrain``).
"""
