"""Files in, pixels out, scores back; no torch.

In:  folders of images, or images by path (``decode``, ``sets``).
Out: resized and cropped pixels exactly as a model's preprocessing record says (``resize``,
     ``preprocess``), decoded in worker processes (``batches``), and what a network's answers
     to them are worth (``topk``, ``evaluate``).
"""
