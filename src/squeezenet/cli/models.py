"""What a model argument opens. Light: ``predict`` answers sooner than an option parser loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from squeezenet.client import Answer, Engine
from squeezenet.codec.kinds import ModelKind, model_kind
from squeezenet.errors import FloatOnlyError
from squeezenet.images.bad import BadImages
from squeezenet.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

DEFAULT = "default"
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "cifar10.sqz"
"""What the word stands for: the network that comes with the package."""


def model_path(word: str) -> Path:
    """Return the path that a model argument means."""
    return DEFAULT_MODEL if word == DEFAULT else Path(word)


def open_answerer(
    path: Path, arch: str | None = None
) -> Callable[[Image.Image, int], list[Answer]]:
    """Open a model argument to answer RGB images with their best classes.

    Without NumPy, where an integer client runs the file.
    """
    if model_kind(path) is ModelKind.SQZ:
        try:
            engine = Engine(path)
        except FloatOnlyError:
            pass
        else:
            return lambda image, top: engine.answer_bytes(
                image.tobytes(), image.height, image.width, top
            )
    from squeezenet.cli.opened import float_answerer, open_model

    return float_answerer(open_model(path, arch))


def bad_images(progress: Progress, *, strict: bool) -> BadImages:
    """Bad images are told as they come."""
    return BadImages(strict=strict, report=progress.log)


def tell_skipped(bad: BadImages, progress: Progress) -> None:
    """End a run with the count of what it skipped."""
    if bad.count:
        what, was = ("image", "was") if bad.count == 1 else ("images", "were")
        progress.log(f"{bad.count} {what} could not be read and {was} skipped")
