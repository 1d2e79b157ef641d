"""What a model argument opens. Light: ``predict`` answers sooner than an option parser loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from squeezenet.client import Answer, Engine
from squeezenet.codec.kinds import ModelKind, model_kind, read_compressed
from squeezenet.errors import FloatOnlyError
from squeezenet.extras import require_extra
from squeezenet.images.bad import BadImages
from squeezenet.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

    from squeezenet.arch.record import ModelRecord
    from squeezenet.images.evaluate import Network

DEFAULT = "default"
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "cifar10.sqz"
"""What the word stands for: the network that comes with the package."""


def model_path(word: str) -> Path:
    """Return the path that a model argument means."""
    return DEFAULT_MODEL if word == DEFAULT else Path(word)


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenModel:
    """A model argument ready to run; ``file_bytes`` is what it takes on disk.

    Files for integer clients run on the compiled runtime, bit for bit as everywhere.
    """

    record: ModelRecord
    network: Network
    file_bytes: int
    arithmetic: Literal["integer", "float32"]


def open_model(
    path: Path, arch: str | None = None, *, in_float: bool = False, threads: int = 1
) -> OpenModel:
    """Open a model argument, compressed ones without torch.

    ``in_float``: run what integer clients run in float32 too; ``threads`` are for integers.
    """
    kind = model_kind(path)
    if kind is ModelKind.SQZ and not in_float:
        from squeezenet.client import Classifier

        try:
            classifier = Classifier(path, threads=threads)
        except FloatOnlyError:
            pass
        else:
            return OpenModel(
                record=classifier.record,
                network=classifier.logits,
                file_bytes=path.stat().st_size,
                arithmetic="integer",
            )
    if kind.is_compressed:
        from squeezenet.reference.float_interpreter import FloatInterpreter

        model = read_compressed(path, kind)
        return OpenModel(
            record=model.record,
            network=FloatInterpreter(model).logits,
            file_bytes=path.stat().st_size,
            arithmetic="float32",
        )
    require_extra("train", f"reading a {kind.value}")
    from squeezenet.images.preprocess import from_pixels
    from squeezenet.model.load import BEST_WEIGHTS, load_model

    loaded = load_model(path, arch)
    file = path / BEST_WEIGHTS if kind is ModelKind.RUN_FOLDER else path
    network = from_pixels(loaded.logits, loaded.record.preprocessing)
    return OpenModel(
        record=loaded.record,
        network=network,
        file_bytes=file.stat().st_size,
        arithmetic="float32",
    )


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
    return _float_answerer(open_model(path, arch))


def _float_answerer(model: OpenModel) -> Callable[[Image.Image, int], list[Answer]]:
    import numpy as np

    from squeezenet.images.evaluate import require_finite
    from squeezenet.images.preprocess import crop_pixels
    from squeezenet.images.topk import softmax, top_k

    record = model.record
    ids = record.class_ids or (None,) * len(record.class_names)

    def answer(image: Image.Image, top: int) -> list[Answer]:
        pixels_HWC = crop_pixels(np.asarray(image), record.preprocessing)
        logits_NK = model.network(pixels_HWC[None])
        require_finite(logits_NK, record)
        probabilities = softmax(logits_NK)[0]
        return [
            Answer(label=record.class_names[k], id=ids[k], probability=float(probabilities[k]))
            for k in top_k(logits_NK, min(top, len(record.class_names)))[0]
        ]

    return answer


def bad_images(progress: Progress, *, strict: bool) -> BadImages:
    """Bad images are told as they come."""
    return BadImages(strict=strict, report=progress.log)


def tell_skipped(bad: BadImages, progress: Progress) -> None:
    """End a run with the count of what it skipped."""
    if bad.count:
        what, was = ("image", "was") if bad.count == 1 else ("images", "were")
        progress.log(f"{bad.count} {what} could not be read and {was} skipped")
