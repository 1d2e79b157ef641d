"""Method ``rd``: integer levels that minimise J = KL + λ * bits over the whole network.

In:  a ``CompressionJob`` and its ``RateDistortionSettings``.
Out: a ``CompressedModel`` of integer levels, and the rows of its stages (``job``).

``curvature``              what an error of each weight costs in nats
``class_fisher``           the same for each class of the last layer
``bit_costs``              what each level costs in bits
``trellis_rounding``       one layer: error feedback and list Viterbi
``layer_search``           one layer: scales, shrinkage, bias correction
``layer_inputs``           what a layer is given, before and after rounding those ahead of it
``level_search``           the whole network at one λ
``size_search``            the λ of a target size or drop
``scale_bias_correction``  scales and biases of all layers at once, with 8-bit activations
                           (``fake_quantize``)
``level_training``         trains the levels, by the original's predictions (``straight_through``)
``prune_first``            prunes and retrains before all that, where labels teach
``session``                what the stages share; ``candidates`` chooses between their results
``checkpoint``             what an interrupted job resumes from
"""
