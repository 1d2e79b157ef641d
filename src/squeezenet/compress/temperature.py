"""The temperature of a compression: fitted on the measured images, folded into the original.

The original's logits are divided by one number T, so that its probabilities mean what they say on
labelled images that it was not trained on (arXiv 1706.04599). The division is folded into its last
convolution before anything is compressed. Curvature, distillation and the measured KL divergence
are then all against the network at T, and what a file loses is what compression costs alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.compress.images import CompressionImages
from squeezenet.compress.measurement import Measurement
from squeezenet.compress.report import Calibration
from squeezenet.evaluation.calibration import at_temperature
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.temperature import with_temperature
from squeezenet.progress import SilentProgress
from squeezenet.train.fit import FitOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class Tempered:
    """The model to compress, its measurement, and what was done to its probabilities.

    ``temperature`` is folded into ``model``: 1 without labels, or if none is wanted.
    ``fits``: whether to fit one. ``error_before``: the expected calibration error of the model as
    it was given, in percentage points; None without labels.
    """

    model: LoadedModel
    measurement: Measurement
    temperature: float
    fits: bool
    error_before: float | None

    def refitted(self, model: LoadedModel) -> float:
        """Return the temperature to fold into what retraining made of the model."""
        return self.measurement.temperature(model) if self.fits else 1.0

    def calibration(self, predicted: LabelledLogits) -> Calibration | None:
        """Return the calibration before, and after by the file's predictions; None without
        labels."""
        after = self.measurement.calibration_error_of(predicted)
        if after is None or self.error_before is None:
            return None
        return Calibration(before=self.error_before, after=after, temperature=self.temperature)


def tempered(
    model: LoadedModel, images: CompressionImages, options: FitOptions, *, fits: bool
) -> Tempered:
    """Fit a temperature to ``model`` on the measured images if it ``fits``, and fold it in.

    Without labels there is none, which ``options.progress`` is told.
    """
    measurement = Measurement(model, images, options)
    progress = options.progress or SilentProgress()
    if not images.measure_labelled:
        if fits:
            progress.log(
                "no labelled images to fit a temperature on: probabilities stay the original's "
                "(--val has labels)"
            )
        return Tempered(
            model=model, measurement=measurement, temperature=1.0, fits=False, error_before=None
        )
    predicted = measurement.original_predictions
    temperature = measurement.fitted_temperature(predicted) if fits else 1.0
    error_before = measurement.calibration_error_of(predicted)
    if temperature != 1:
        model = with_temperature(model, temperature)
        known = at_temperature(predicted, temperature)
        measurement = Measurement(model, images, options, known)
        progress.log(
            f"temperature {temperature:.3f}, fitted on {len(predicted.labels):,} labelled images "
            "and folded into the last layer"
        )
    return Tempered(
        model=model,
        measurement=measurement,
        temperature=temperature,
        fits=fits,
        error_before=error_before,
    )
