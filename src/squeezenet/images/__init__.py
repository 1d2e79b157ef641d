"""Files in, pixels out, scores back; no torch.

In:  folders of images (``sets``), or one image: a file, a Pillow image (``decode``), bytes or an
     array (``inputs``).
Out: resized and cropped pixels exactly as a model's preprocessing record says (``resize``,
     ``preprocess``), decoded in worker processes (``batches``), and what a network's answers
     to them are worth (``topk``, ``evaluate``).
"""
