"""Run a ``.sqz`` in Python on the compiled runtime: integers, no torch.

In:  a file, and pictures (file names, Pillow images or uint8 arrays).
Out: classes with probabilities, or logits; bit for bit what spec/INTEGER.md says.
"""

from squeezenet.client.classifier import Answer, Classifier

__all__ = ["Answer", "Classifier"]
