"""A model argument, whatever its kind, ready to run on batches of cropped pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from squeezenet.client import Prediction
from squeezenet.codec.model_kinds import ModelKind, SourceFile, find_model, read_compressed
from squeezenet.errors import FloatOnlyError
from squeezenet.extras import require_extra

if TYPE_CHECKING:
    from PIL import Image

    from squeezenet.api.predictor import Predictor
    from squeezenet.arch.record import ModelRecord
    from squeezenet.evaluation.predict import LogitsFn


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenModel:
    """A model that is ready to run.

    ``network`` maps cropped uint8 pixels (N, H, W, C) to float32 logits (N, K). ``source`` is the
    file that the weights come from. Files for integer clients run on the compiled runtime and give
    the same logits as on any other client, bit for bit.
    """

    record: ModelRecord
    network: LogitsFn
    source: SourceFile
    arithmetic: Literal["integer", "float32"]

    @property
    def file_bytes(self) -> int:
        """Size of the file on disk."""
        return self.source.num_bytes


def open_model(
    path: Path, arch: str | None = None, *, in_float: bool = False, threads: int = 1
) -> OpenModel:
    """Open a run folder or a model file; compressed ones need no torch.

    ``arch`` names the architecture of a ``.pth``. ``in_float`` runs an integer model in float32.
    ``threads`` are for integer models.

    Raises:
        UsageError: there is no such file.
        FormatError, WeightsError: the file is damaged, or no model.
        MissingExtraError: it needs torch, which is not installed.
    """
    source = find_model(path)
    if source.kind is ModelKind.SQZ and not in_float:
        from squeezenet.client import Classifier

        try:
            classifier = Classifier(source.path, threads=threads)
        except FloatOnlyError:
            pass
        else:
            return OpenModel(
                record=classifier.record,
                network=classifier.logits,
                source=source,
                arithmetic="integer",
            )
    if source.kind.is_compressed:
        from squeezenet.reference.float_interpreter import FloatInterpreter

        model = read_compressed(source)
        return OpenModel(
            record=model.record,
            network=FloatInterpreter(model).logits,
            source=source,
            arithmetic="float32",
        )
    require_extra("train", f"reading a {source.kind.value}")
    from squeezenet.images.preprocess import from_pixels
    from squeezenet.model.load import load_model

    loaded = load_model(path, arch)
    network = from_pixels(loaded.logits, loaded.record.preprocessing)
    return OpenModel(record=loaded.record, network=network, source=source, arithmetic="float32")


def float_predictor(model: OpenModel) -> Predictor:
    """Return a function that names the best classes of one RGB image."""
    import numpy as np

    from squeezenet.evaluation.metrics import softmax, top_k
    from squeezenet.evaluation.predict import require_finite
    from squeezenet.images.preprocess import crop_pixels

    record = model.record
    ids = record.class_ids or (None,) * len(record.class_names)

    def predict(image: Image.Image, top: int) -> list[Prediction]:
        pixels_HWC = crop_pixels(np.asarray(image), record.preprocessing)
        logits_NK = model.network(pixels_HWC[None])
        require_finite(logits_NK, record)
        probabilities = softmax(logits_NK)[0]
        return [
            Prediction(label=record.class_names[k], id=ids[k], probability=float(probabilities[k]))
            for k in top_k(logits_NK, min(top, len(record.class_names)))[0]
        ]

    return predict
