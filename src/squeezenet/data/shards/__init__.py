"""Shards: labelled images in WebDataset tar files, for sets that are too large for single files.

In:  a folder of pictures (``write``), or tars of others (``scan``).
Out: tars that every WebDataset reader reads, an index beside them (``index``), and the set of
     images that training and evaluation read by it (``images``), from a folder or a URL
     (``storage``, ``remote``).
"""
