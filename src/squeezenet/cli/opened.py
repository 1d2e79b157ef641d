"""A model argument, whatever it is, ready to run: what all commands but a plain ``predict`` use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from squeezenet.client import Answer
from squeezenet.codec.kinds import ModelKind, model_kind, read_compressed
from squeezenet.errors import FloatOnlyError
from squeezenet.extras import require_extra

if TYPE_CHECKING:
    from PIL import Image

    from squeezenet.arch.record import ModelRecord
    from squeezenet.images.evaluate import Network


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


def float_answerer(model: OpenModel) -> Callable[[Image.Image, int], list[Answer]]:
    """Return what answers RGB images with their best classes."""
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
