"""What a model argument means: a path, or the word ``default``. Light: no NumPy."""

from __future__ import annotations

from pathlib import Path

DEFAULT = "default"
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "cifar10.sqz"
"""What the word stands for: the network that comes with the package."""


def model_path(word: str) -> Path:
    """Return the path that a model argument means."""
    return DEFAULT_MODEL if word == DEFAULT else Path(word)
