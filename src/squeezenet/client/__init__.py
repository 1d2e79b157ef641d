"""Run a ``.sqz`` in Python on the compiled runtime: integers, no torch.

In:  a file, and pictures (file names, Pillow images or uint8 arrays).
Out: classes with probabilities, or logits; bit for bit what spec/INTEGER.md says.
"""

from typing import TYPE_CHECKING, Any

from squeezenet.client.engine import STACK_BYTES, Engine, Prediction, available_kernels

if TYPE_CHECKING:
    from squeezenet.client.classifier import Classifier

__all__ = ["STACK_BYTES", "Classifier", "Engine", "Prediction", "available_kernels"]


def __getattr__(name: str) -> Any:
    """``Classifier`` needs NumPy, and is loaded when it is first named."""
    if name != "Classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from squeezenet.client.classifier import Classifier

    return Classifier
