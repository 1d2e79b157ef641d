"""What was measured, to look at.

In:  a model's record, its answers to labelled images, the metrics of its training.
Out: a folder of pictures (PNG and SVG) and a model card, every figure of it measured
     (``write``).
"""
