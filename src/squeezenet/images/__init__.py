"""Image files in, cropped pixels out; no torch.

In:  folders of images: which files are pictures (``formats``, ``walk``), which folders are classes
     or parts of a data set (``folders``), as a set with labels (``sets``). Or one image: a file or
     Pillow image (``decode``), bytes or an array (``inputs``), within ``limits``.
Out: pixels resized and cropped exactly as a model's preprocessing says (``resize``,
     ``preprocess``), one by one or in batches from worker processes (``batches``).
"""
