"""What a model argument means, for the commands. Light: no NumPy."""

from __future__ import annotations

from squeezenet.codec.model_kinds import DEFAULT, DEFAULT_MODEL, model_path

__all__ = ["DEFAULT", "DEFAULT_MODEL", "model_path"]
