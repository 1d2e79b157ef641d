"""Which optional dependency belongs to which extra, and the error when it is missing."""

from __future__ import annotations

import importlib.util

from squeezenet.errors import MissingExtraError

EXTRA_MODULES = {
    "train": ("torch", "safetensors", "sklearn", "tensorboard", "webdataset"),
    "report": ("matplotlib",),
    "explore": ("optuna", "matplotlib"),
    "onnx": ("onnx",),
}
"""Extra of pyproject.toml -> the modules that it brings."""


DISTRIBUTION = "sqznet"
"""The name that pip knows; ``squeezenet`` on PyPI is another project."""
_ADVICE = {
    "torch": "; without a GPU, install a CPU build of torch before it, which is far smaller: "
    "see pytorch.org/get-started",
}
"""Module -> what to know before it is installed."""


def require_extra(extra: str, purpose: str) -> None:
    """Refuse in one line when an extra is not installed, before anything is imported.

    Raises:
        MissingExtraError: names the missing module and the command that installs it.
    """
    for module in EXTRA_MODULES[extra]:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f"{purpose} needs the Python package {module!r}, which is not installed; "
                f"install it with: pip install '{DISTRIBUTION}[{extra}]'{_ADVICE.get(module, '')}"
            )
