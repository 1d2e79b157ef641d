"""A model argument, ready to name the classes of one image. Light: no NumPy for integer models.

``squeezenet predict`` starts here, and answers before an option parser would be loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from squeezenet.client import Engine, Prediction
from squeezenet.codec.model_kinds import ModelKind, find_model
from squeezenet.errors import FloatOnlyError

if TYPE_CHECKING:
    from PIL import Image

    from squeezenet.progress import Progress

Predictor: TypeAlias = "Callable[[Image.Image, int], list[Prediction]]"
"""(RGB image, number of classes) -> the best classes, best first."""


def open_predictor(
    path: Path,
    arch: str | None = None,
    *,
    classes: str | None = None,
    progress: Progress | None = None,
) -> Predictor:
    """Open a model argument; arguments and errors as ``open_model``'s."""
    source = find_model(path)
    if source.kind is ModelKind.SQZ and classes is None:
        try:
            engine = Engine(source.path)
        except FloatOnlyError:
            pass
        else:
            return lambda image, top: engine.predict_bytes(
                image.tobytes(), image.height, image.width, top
            )
    from squeezenet.api.open_model import open_model

    return open_model(path, arch, classes=classes, progress=progress).predict
