"""Run a network on labelled images; compute accuracy, agreement and KL divergence. No torch.

In:  a function from cropped pixels to logits, and batches of labelled images (``images``).
Out: ``LabelledLogits`` (``predict``), and the metrics computed from them (``metrics``).
"""
