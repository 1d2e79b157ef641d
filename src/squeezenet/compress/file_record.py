"""The record of a compressed file: where it comes from, and what was measured of it.

Sizes are known before measurements are: placeholders stand for these until then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from squeezenet import __version__
from squeezenet.arch.graph import build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import to_plain
from squeezenet.codec.container import encode
from squeezenet.codec.types import ActivationScale, CompressedLayer, CompressedModel
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.report import Calibration
from squeezenet.evaluation.calibration import recorded_temperature
from squeezenet.evaluation.metrics import Comparison, Evaluation
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel

Settings: TypeAlias = DeepCompressionSettings | RateDistortionSettings
"""Their type selects the method."""

PLACEHOLDER_MEASUREMENT = Evaluation(top1=12.3456, top5=78.9012, images=0, skipped=0)
PLACEHOLDER_COMPARISON = Comparison(
    agreement=34.5678,
    kl=1.2345,
    top1_difference=0.0,
    top1_standard_error=0.0,
    top5_difference=0.0,
    top5_standard_error=0.0,
)
PLACEHOLDER_CALIBRATION = Calibration(before=5.6781, after=9.2346, temperature=1.0)
PLACEHOLDER_TEMPERATURE = 1.2345
"""Stand-ins for measurements not yet made. They have as many digits as a record may have."""
UNKNOWN_BYTES = 10
"""What the digits of real measurements may take more than those of the stand-ins, as texts are
coded: of 600 random records the most was 9. A size that must be kept leaves room for it."""


def method_name(settings: Settings) -> str:
    """Return the method's name, as ``--method`` has it."""
    return "rd" if isinstance(settings, RateDistortionSettings) else "deep-compression"


def file_record(
    model: LoadedModel, settings: Settings, seed: int, temperature: float = 1.0
) -> ModelRecord:
    """Return the record of the file: that of the folded network, and where the file comes from.

    ``temperature`` is what the last convolution is divided by. What the source had is multiplied
    with it.
    """
    folded = fold_batch_norm(model).record
    provenance = {
        "method": method_name(settings),
        "made_by": f"squeezenet {__version__}",
        "settings": to_plain(settings),
        "source": folded.provenance,
        "seed": seed,
    }
    if model.source is not None:
        provenance["source_sha256"] = model.source.sha256
    whole = round(temperature * recorded_temperature(folded), 4)
    if whole != 1:
        provenance["temperature"] = whole
    return dataclasses.replace(folded, provenance=provenance)


def with_measured(
    record: ModelRecord,
    num_images: int,
    measured: Evaluation | None,
    comparison: Comparison,
    calibration: Calibration | None = None,
) -> ModelRecord:
    """Return the record with measurements of the file, rounded to 4 decimals."""
    values = {"agreement": comparison.agreement, "kl": comparison.kl}
    if measured is not None:
        values |= {"top1": measured.top1, "top5": measured.top5}
    if calibration is not None:
        values |= {"ece": calibration.after, "ece_before": calibration.before}
    rounded = {name: round(value, 4) for name, value in values.items()}
    provenance = record.provenance | {"measured": {"images": num_images, **rounded}}
    return dataclasses.replace(record, provenance=provenance)


def quantized_tensor_names(record: ModelRecord, settings: Settings) -> tuple[str, ...]:
    """Names of the tensors with an activation scale; none for codebooks, which run in float32."""
    if isinstance(settings, DeepCompressionSettings):
        return ()
    return scaled_tensors(build_graph(record.spec))


def file_size(
    record: ModelRecord, settings: Settings, num_images: int, *, labelled: bool = False
) -> Callable[[tuple[CompressedLayer, ...]], int]:
    """Return a function from layers to the bytes of their finished file.

    The record holds placeholders for measurements, so the file may have up to ``UNKNOWN_BYTES``
    more. ``labelled``: the calibration is measured too.
    """
    placeholder = with_measured(
        record,
        num_images,
        PLACEHOLDER_MEASUREMENT,
        PLACEHOLDER_COMPARISON,
        PLACEHOLDER_CALIBRATION if labelled else None,
    )
    names = quantized_tensor_names(record, settings)
    activations = {name: ActivationScale(scale=1.0, zero_point=0) for name in names} or None

    def file_bytes(layers: tuple[CompressedLayer, ...]) -> int:
        return len(
            encode(CompressedModel(record=placeholder, layers=layers, activations=activations))
        )

    return file_bytes
