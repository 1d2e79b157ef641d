"""A model argument, whatever its kind, ready to run on images or on batches of cropped pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from squeezenet.api.class_names import Classes, class_labels
from squeezenet.arch.record import with_labels
from squeezenet.client import Prediction
from squeezenet.codec.model_kinds import (
    DEFAULT,
    ModelKind,
    SourceFile,
    find_model,
    model_path,
    read_compressed,
)
from squeezenet.errors import FloatOnlyError, UsageError
from squeezenet.extras import require_extra
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits

if TYPE_CHECKING:
    from squeezenet.arch.record import ModelRecord
    from squeezenet.client import Classifier
    from squeezenet.evaluation.predict import LogitsFn
    from squeezenet.images.decode import Pixels
    from squeezenet.images.inputs import ImageInput
    from squeezenet.progress import Progress


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class OpenModel:
    """A model that is ready to run.

    ``record`` has the network's spec, its preprocessing, class names and provenance. ``network``
    maps cropped uint8 pixels (N, H, W, C) to float32 logits (N, K). ``source`` is the file that the
    weights come from. Files for integer clients run on the compiled runtime, ``classifier``, and
    give the same logits as on any other client, bit for bit; for others it is None, and for names
    that come from outside the file.
    """

    record: ModelRecord
    network: LogitsFn
    source: SourceFile
    arithmetic: Literal["integer", "float32"]
    classifier: Classifier | None = None

    def __repr__(self) -> str:
        spec, path = self.record.spec, str(self.source.path)
        return (
            f"OpenModel({path!r}, {spec.name}, {spec.num_classes} classes, "
            f"{self.source.num_bytes:,} bytes, {self.arithmetic})"
        )

    @property
    def file_bytes(self) -> int:
        """Size of the file on disk."""
        return self.source.num_bytes

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.record.class_names

    @overload
    def predict(
        self, image: ImageInput, top: int = 5, *, limits: ImageLimits = ...
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, image: list[Any] | tuple[Any, ...], top: int = 5, *, limits: ImageLimits = ...
    ) -> list[list[Prediction]]: ...

    def predict(
        self,
        image: ImageInput | list[Any] | tuple[Any, ...],
        top: int = 5,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> list[Prediction] | list[list[Prediction]]:
        """Return the ``top`` most probable classes of an image, best first; of a list, a list each.

        ``image``: a path, the bytes of an image file, a file object, a Pillow image, or pixels,
        uint8 (H, W, 3) in RGB or (H, W) in grey. ``limits``: the largest image that is read.

        Raises:
            ImageError: an image cannot be read, or is nothing of the kind.
            UsageError: ``top`` is below 1.
            WeightsError: the model's logits are not finite.
        """
        if self.classifier is not None:
            return self.classifier(image, top, limits=limits)
        if top < 1:
            raise UsageError(f"the best {top} classes, expected at least 1")
        from squeezenet.images.inputs import over_images

        predictions = over_images(image, lambda pixels_HWC: self._predict(pixels_HWC, top), limits)
        return predictions

    def _predict(self, rgb_HWC: Pixels, top: int) -> list[Prediction]:
        from squeezenet.evaluation.metrics import softmax, top_k
        from squeezenet.evaluation.predict import require_finite
        from squeezenet.images.preprocess import crop_pixels

        record = self.record
        ids = record.class_ids or (None,) * len(record.class_names)
        pixels_HWC = crop_pixels(rgb_HWC, record.preprocessing)
        logits_NK = self.network(pixels_HWC[None])
        require_finite(logits_NK, record)
        probabilities = softmax(logits_NK)[0]
        return [
            Prediction(label=record.class_names[k], id=ids[k], probability=float(probabilities[k]))
            for k in top_k(logits_NK, min(top, len(record.class_names)))[0]
        ]


def open_model(
    model: str | os.PathLike[str] = DEFAULT,
    arch: str | None = None,
    *,
    in_float: bool = False,
    threads: int = 1,
    classes: Classes | None = None,
    progress: Progress | None = None,
) -> OpenModel:
    """Open a run folder or a model file, or the network that comes with the package (``default``).

    ``.sqz`` and Han's ``.net`` need no torch; ``.safetensors``, ``.pth`` and run folders do.
    ``arch`` names the architecture of weights of others, by default their shapes decide.
    ``in_float`` runs an integer model in float32. ``threads`` are for integer models. ``classes``
    names the outputs of a model whose file does not: a list of names, a file with a name per line
    (or id, tab, name; or a JSON list), or a folder of class folders. ``progress`` is told what a
    file of others has beside the weights.

    Raises:
        UsageError: there is no such file, or ``classes`` for a model that names its own.
        ClassCountError: ``classes`` are not as many as the outputs.
        FormatError, WeightsError: the file is damaged, or no model.
        MissingExtraError: it needs torch, which is not installed.
    """
    path = model_path(model) if isinstance(model, str) else Path(model)
    labels = class_labels(classes)
    source = find_model(path)
    if source.kind is ModelKind.SQZ and not in_float:
        from squeezenet.client import Classifier

        try:
            classifier = Classifier(source.path, threads=threads)
        except FloatOnlyError:
            pass
        else:
            record = classifier.record
            if labels is not None:
                record = with_labels(record, labels, str(path))
            return OpenModel(
                record=record,
                network=classifier.logits,
                source=source,
                arithmetic="integer",
                # It predicts the names of the file.
                classifier=classifier if record is classifier.record else None,
            )
    if source.kind.is_compressed:
        from squeezenet.reference.float_interpreter import FloatInterpreter

        compressed = read_compressed(source)
        record = compressed.record
        return OpenModel(
            record=record if labels is None else with_labels(record, labels, str(path)),
            network=FloatInterpreter(compressed).logits,
            source=source,
            arithmetic="float32",
        )
    require_extra("train", f"reading a {source.kind.value}")
    from squeezenet.images.preprocess import from_pixels
    from squeezenet.model.load import load_model

    loaded = load_model(path, arch, labels=labels, progress=progress)
    network = from_pixels(loaded.logits, loaded.record.preprocessing)
    return OpenModel(record=loaded.record, network=network, source=source, arithmetic="float32")
