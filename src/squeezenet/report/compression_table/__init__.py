"""The report of the paper's table 2: sizes and accuracies of compressed networks.

In:  ``CompressionTable`` (``results``).
Out: a folder: ``table.html``, which needs nothing else; a figure as PNG and SVG; ``table.csv``.
"""
