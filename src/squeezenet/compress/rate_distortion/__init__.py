"""Method ``rd``: integer levels that minimise J = KL + lambda * bits over the whole network.

In:  a ``CompressionJob`` and its ``settings``.
Out: a ``CompressedModel`` of integer levels, and the rows of its stages (``job``).

``curvature`` measures what an error of each weight costs in nats; ``bit_costs`` what each level
costs in bits. ``trellis_rounding`` rounds one layer, ``level_search`` the network at one lambda,
``size_search`` finds the lambda of a target size or drop. ``scale_bias_correction`` then corrects
scales and biases of all layers at once (with activations as clients have them, ``fake_quantize``),
and ``incremental`` trains what is not yet rounded (``partly_rounded``). ``checkpoint`` is what an
interrupted job resumes from.
"""
