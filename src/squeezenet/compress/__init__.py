"""Trained model -> integers, small enough to code tightly.

In:  a ``LoadedModel``, images to learn from and images to measure with (``images``).
Out: a ``CompressedModel`` for the codec, and the table of stages (``stage_table``).

``run`` is what ``squeezenet compress`` does, whatever the method:

``rate_distortion``   "rd": integer levels. ``curvature`` tells what errors cost, ``rates`` what
                      bits cost, ``rounding`` one layer, ``level_search`` the whole network,
                      ``price_search`` to a size, ``gains`` (with ``activations`` in bytes) and
                      ``tune`` what is mended afterwards, the latter by training a
                      ``part_rounded`` network. ``effort`` tells how much of all that,
                      ``saved`` is what an interrupted job goes on from.
``deep_compression``  the paper's: ``prune`` (with ``sensitivity`` to choose the densities),
                      ``share``, and the codec's entropy coding.

Both prune and ``retrain``, and train a ``compressed_network``, whose weights are what a file will
hold.
"""
