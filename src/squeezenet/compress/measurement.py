"""How good a stage or a file is: accuracy on the measured images, and comparison with the original.

The measured images are never trained on. The original is run once, when it is first needed.
"""

from __future__ import annotations

from functools import cached_property

from squeezenet.compress.images import CompressionImages
from squeezenet.compress.report import drop_of
from squeezenet.evaluation.metrics import Comparison, Evaluation, compare, score
from squeezenet.evaluation.predict import LabelledLogits, LogitsFn, predict
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.fit import FitOptions

BATCH_SIZE = 128
"""Images per batch. It bounds memory and changes no result but by rounding."""


class Measurement:
    """Runs networks on the measured images of one job."""

    def __init__(
        self, original: LoadedModel, images: CompressionImages, options: FitOptions
    ) -> None:
        self._original = original
        self._labelled = images.measure_labelled
        self._progress = options.progress
        self._batches = EvalBatches(
            images.measure,
            original.record.preprocessing,
            workers=options.workers,
            batch_size=BATCH_SIZE,
            bad=options.bad,
        )

    def predict(self, network: LogitsFn) -> LabelledLogits:
        """Return a network's logits on the measured images."""
        return predict(network, self._original.record, self._batches, progress=self._progress)

    def accuracy(self, model: LoadedModel) -> Evaluation | None:
        """Return the accuracy of a torch model; None without labels."""
        return self.accuracy_of(self._predict_model(model)) if self._labelled else None

    def accuracy_of(self, predicted: LabelledLogits) -> Evaluation | None:
        """Return the accuracy of predictions; None without labels."""
        return score(predicted) if self._labelled else None

    def compare(self, predicted: LabelledLogits) -> Comparison:
        """Compare predictions with the original's."""
        return compare(predicted, self._original_predictions)

    def drop(self, model: LoadedModel) -> float:
        """Return points of top-1 lost; without labels, percent of predictions that changed."""
        return drop_of(self.compare(self._predict_model(model)), labelled=self._labelled)

    def drop_of(self, network: LogitsFn) -> float:
        """Return what ``drop`` does, of a network as a client runs it."""
        return drop_of(self.compare(self.predict(network)), labelled=self._labelled)

    @cached_property
    def _original_predictions(self) -> LabelledLogits:
        return self._predict_model(self._original)

    def _predict_model(self, model: LoadedModel) -> LabelledLogits:
        return self.predict(from_pixels(model.logits, model.record.preprocessing))
