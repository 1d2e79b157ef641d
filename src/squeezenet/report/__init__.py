"""Reports: figures and a model card.

In:  a model's record, its predictions on labelled images, the metrics of its training.
Out: a folder of figures (PNG and SVG) and a model card (``write``). All numbers are measured.
"""
