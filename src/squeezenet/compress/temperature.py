"""The temperature of a compression: fitted on the measured images, stored in the last convolution.

A client's logits are divided by one number T, so that its probabilities mean what they say on
labelled images that were not trained on (arXiv 1706.04599). Methods divide the last convolution by
T before they round it, as T is not exact afterwards. Everything that decides what to round how goes
by the logits without T: a sharper network has another curvature, and would spend other bytes.
"""

from __future__ import annotations

from squeezenet.compress.images import CompressionImages
from squeezenet.compress.measurement import Measurement
from squeezenet.compress.report import Calibration
from squeezenet.evaluation.calibration import at_temperature
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress


class TemperatureFit:
    """Fits the temperature of one job; ``value`` is 1 until then.

    ``is_wanted``: there are labels, and the temperature is not to be left out.
    """

    def __init__(
        self,
        original: LoadedModel,
        measurement: Measurement,
        images: CompressionImages,
        progress: Progress,
        *,
        is_wanted: bool,
    ) -> None:
        self._original, self._measurement = original, measurement
        self._progress = progress
        self.is_wanted = is_wanted and images.measure_labelled
        self.value = 1.0
        if is_wanted and not self.is_wanted:
            progress.log(
                "no labelled images to fit a temperature on: probabilities stay the original's "
                "(--val has labels)"
            )

    def fit(self, model: LoadedModel) -> float:
        """Fit the temperature to a model that is about to be rounded; return it.

        All ranks get the same.
        """
        if not self.is_wanted:
            return 1.0
        predicted = (
            self._measurement.original_predictions
            if model is self._original
            else self._measurement.predict_model(model)
        )
        self.value = self._measurement.temperature(predicted)
        self._progress.log(
            f"temperature {self.value:.3f}, fitted on {len(predicted.labels):,} labelled images, "
            "goes into the last layer"
        )
        return self.value

    def removed(self, predicted: LabelledLogits) -> LabelledLogits:
        """Return a file's predictions as they are without the temperature."""
        return at_temperature(predicted, 1 / self.value)

    def calibration(self, predicted: LabelledLogits) -> Calibration | None:
        """Return the calibration of the original and by a file's predictions; None without
        labels."""
        before = self._measurement.calibration_error_of(self._measurement.original_predictions)
        after = self._measurement.calibration_error_of(predicted)
        if before is None or after is None:
            return None
        return Calibration(before=before, after=after, temperature=self.value)
