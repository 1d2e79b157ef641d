"""How good a stage or a file is: accuracy on the measured images, and comparison with the original.

The measured images are never trained on. The original is run once, when it is first needed.
"""

from __future__ import annotations

from functools import cached_property

from squeezenet.compress.images import CompressionImages
from squeezenet.compress.report import drop_of
from squeezenet.evaluation.calibration import calibration_error, fit_temperature
from squeezenet.evaluation.metrics import Comparison, Evaluation, compare, score
from squeezenet.evaluation.predict import LabelledLogits, LogitsFn
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.distributed.evaluation import batches_of_rank, predict_on_ranks
from squeezenet.train.fit import FitOptions

BATCH_SIZE = 128
"""Images per batch. It bounds memory and changes no result but by rounding."""


class Measurement:
    """Runs networks on the measured images of one job."""

    def __init__(
        self,
        original: LoadedModel,
        images: CompressionImages,
        options: FitOptions,
    ) -> None:
        self._original = original
        self._labelled = images.measure_labelled
        self._progress = options.progress
        self._ranks = options.ranks
        self._batches = batches_of_rank(
            images.measure,
            original.record.preprocessing,
            workers=options.workers,
            batch_size=BATCH_SIZE,
            bad=options.bad,
            ranks=options.ranks,
        )

    def predict(self, network: LogitsFn) -> LabelledLogits:
        """Return a network's logits on the measured images."""
        return predict_on_ranks(
            network, self._original.record, self._batches, self._ranks, progress=self._progress
        )

    def accuracy(self, model: LoadedModel) -> Evaluation | None:
        """Return the accuracy of a torch model; None without labels."""
        return self.accuracy_of(self.predict_model(model)) if self._labelled else None

    def accuracy_of(self, predicted: LabelledLogits) -> Evaluation | None:
        """Return the accuracy of predictions; None without labels."""
        return score(predicted) if self._labelled else None

    def compare(self, predicted: LabelledLogits) -> Comparison:
        """Compare predictions with the original's."""
        return compare(predicted, self.original_predictions)

    def calibration_error_of(self, predicted: LabelledLogits) -> float | None:
        """Return the expected calibration error in percentage points; None without labels."""
        return calibration_error(predicted) if self._labelled else None

    def temperature(self, predicted: LabelledLogits) -> float:
        """Return the temperature that fits labelled predictions best, the same on all ranks."""
        return self._ranks.broadcast(fit_temperature(predicted))

    def drop(self, model: LoadedModel) -> float:
        """Return points of top-1 lost; without labels, percent of predictions that changed."""
        return self._drop_of(self.predict_model(model))

    def drop_of(self, network: LogitsFn) -> float:
        """Return what ``drop`` does, of a network as a client runs it."""
        return self._drop_of(self.predict(network))

    def _drop_of(self, predicted: LabelledLogits) -> float:
        # Ranks on different processors may round differently, and must decide alike.
        drop = drop_of(self.compare(predicted), labelled=self._labelled)
        return self._ranks.broadcast(drop)

    @cached_property
    def original_predictions(self) -> LabelledLogits:
        """The original's logits on the measured images."""
        return self.predict_model(self._original)

    def predict_model(self, model: LoadedModel) -> LabelledLogits:
        """Return the logits of a torch model on the measured images."""
        return self.predict(from_pixels(model.logits, model.record.preprocessing))
