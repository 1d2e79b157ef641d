"""Logits of labelled images, and what they are worth: accuracy, agreement, divergence. No torch.

In:  a function from cropped pixels to logits, and batches of labelled images (``images``).
Out: ``LabelledLogits`` (``predict``), and the measures that are taken from them (``metrics``).
"""
