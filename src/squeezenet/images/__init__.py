"""Image files in, cropped pixels out; no torch.

In:  folders of images (``sets``), or one image: a file or Pillow image (``decode``), bytes or an
     array (``inputs``).
Out: pixels resized and cropped exactly as a model's preprocessing says (``resize``,
     ``preprocess``), one by one or in batches from worker processes (``batches``).
"""
