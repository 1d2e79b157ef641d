"""What ``squeezenet compress`` does: a model and images to a measured ``.sqz`` file."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from squeezenet import __version__
from squeezenet.arch.graph import build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import to_plain
from squeezenet.client import Classifier
from squeezenet.codec.container import decode, encode
from squeezenet.codec.model_kinds import SourceFile
from squeezenet.codec.sizes import LayerSizes, layer_sizes
from squeezenet.codec.types import ActivationScale, CompressedModel
from squeezenet.compress.calibrate import CALIBRATION_IMAGES, calibrated
from squeezenet.compress.deep_compression.job import DeepCompression
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.images import CompressionImages, some_of
from squeezenet.compress.rate_distortion.job import RateDistortion
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.stage_table import StageRow, coded_row, huffman_row
from squeezenet.errors import QualityError, UsageError
from squeezenet.evaluation.metrics import Comparison, Evaluation, compare, score
from squeezenet.evaluation.predict import LabelledLogits, LogitsFn, predict
from squeezenet.files import write_bytes_atomically
from squeezenet.images.batches import EvalBatches, default_workers
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.loaded import LoadedModel
from squeezenet.reference.float_interpreter import FloatInterpreter
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import keep_freed_memory
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

Settings: TypeAlias = DeepCompressionSettings | RateDistortionSettings
"""Their type names the method."""
_WORST = Evaluation(top1=12.3456, top5=78.9012, images=0, skipped=0)
_WORST_COMPARISON = Comparison(
    agreement=34.5678,
    kl=1.2345,
    top1_difference=0.0,
    top1_standard_error=0.0,
    top5_difference=0.0,
    top5_standard_error=0.0,
)
"""Stand-ins for measurements that are yet to be made, with as many digits."""
_SMALLER = {
    "deep-compression": "prune more (--density) or use fewer --bits",
    "rd": "ask for a few bytes less",
}
_BETTER = {
    "deep-compression": "keep more weights (--density), use more --bits, or retrain longer "
    "(--prune-epochs)",
    "rd": "allow more bytes, or a higher --effort",
}
"""What helps when a file is too large, or loses too much."""


@dataclass(frozen=True, kw_only=True)
class CompressionReport:
    """What is known of the file that was written; accuracies are those of the file itself.

    ``skipped`` counts images that could not be read.
    """

    file_bytes: int
    method: str
    original_bytes: int
    stages: tuple[StageRow, ...]
    layers: tuple[LayerSizes, ...]
    comparison: Comparison
    measured_images: int
    measured_labelled: bool
    max_drop: float | None
    target_bytes: int | None
    skipped: int = 0

    @property
    def drop(self) -> float:
        """Points of top-1 lost; without labels, percent of predicted that changed."""
        return _drop(self.comparison, labelled=self.measured_labelled)

    def require_quality(self) -> None:
        """Refuse a file that loses more, or is larger, than was allowed.

        Raises:
            QualityError: says by how much and what may help; the file stays.
        """
        if self.target_bytes is not None and self.file_bytes > self.target_bytes:
            raise QualityError(
                f"the file is written, but has {self.file_bytes} bytes, expected at most "
                f"{self.target_bytes}; {_SMALLER[self.method]}"
            )
        if self.max_drop is not None and not self.drop <= self.max_drop:
            what = (
                "points of top-1 lost" if self.measured_labelled else "percent of answers changed"
            )
            raise QualityError(
                f"the file is written, but {self.drop:.2f} {what} on "
                f"{self.measured_images} images, expected at most {self.max_drop:g}; "
                f"{_BETTER[self.method]}"
            )


def compress_model(
    model: LoadedModel,
    images: CompressionImages,
    out: Path,
    settings: Settings,
    base_recipe: Recipe,
    *,
    seed: int = 0,
    max_drop: float | None = None,
    options: FitOptions | None = None,
) -> CompressionReport:
    """Compress ``model`` by the settings' method into ``out`` and measure the file.

    A folder ``OUT.work`` beside it holds what an interrupted call goes on from; it is removed at
    the end.

    Raises:
        InterruptedRunError: a signal came; the same call goes on.
    """
    options = options or FitOptions()
    keep_freed_memory()
    work = RunFolder(out.with_name(out.name + ".work"))
    work.open(
        {
            "architecture": model.record.spec.name,
            "source": model.source.sha256 if model.source else None,
            "method": _method(settings),
            "settings": settings,
            "recipe": base_recipe,
            "images": images.fingerprint,
            "seed": seed,
        }
    )
    batches = EvalBatches(
        images.measure,
        model.record.preprocessing,
        workers=options.workers,
        batch_size=128,
        bad=options.bad,
    )

    def predict_measured(network: LogitsFn) -> LabelledLogits:
        return predict(network, model.record, batches, progress=options.progress)

    def predict_float(stage: LoadedModel) -> LabelledLogits:
        return predict_measured(from_pixels(stage.logits, stage.record.preprocessing))

    def measure(stage: LoadedModel) -> Evaluation | None:
        return score(predict_float(stage)) if images.measure_labelled else None

    originals = functools.cache(lambda: predict_float(model))
    folded = fold_batch_norm(model).record
    record = _record(folded, model.source, settings, seed)
    # As long as the measured record will be, give or take a few compressed digits.
    placeholder = _with_measured(record, len(images.measure), _WORST, _WORST_COMPARISON)
    names = scaled_tensors(build_graph(record.spec))
    if isinstance(settings, DeepCompressionSettings):
        names = ()  # codebooks are for float32
    any_activations = {name: ActivationScale(scale=1.0, zero_point=0) for name in names} or None
    common: dict[str, Any] = {
        "model": model,
        "images": images,
        "base_recipe": base_recipe,
        "measure": measure,
        "file_bytes": lambda layers: len(
            encode(CompressedModel(record=placeholder, layers=layers, activations=any_activations))
        ),
        "work": work.path,
        "seed": seed,
        "options": options,
    }
    job: DeepCompression | RateDistortion
    if isinstance(settings, DeepCompressionSettings):
        job = DeepCompression(settings=settings, **common)
    else:
        job = RateDistortion(
            settings=settings,
            drop=lambda stage: _drop(
                compare(predict_float(stage), originals()), labelled=images.measure_labelled
            ),
            **common,
        )
    try:
        compressed, stages = job.run()
    except (QualityError, UsageError):
        # Nothing to go on from: the next call will have other settings.
        shutil.rmtree(work.path)
        raise

    if names:
        some = EvalBatches(
            some_of(images.retrain, CALIBRATION_IMAGES, seed),
            model.record.preprocessing,
            workers=options.workers,
            bad=options.bad,
        )
        compressed = calibrated(compressed, some, progress=options.progress)
    # From here on the file speaks, run as clients run it. It is written with what it measured,
    # which changes the record and no layer.
    data = encode(dataclasses.replace(compressed, record=record))
    predicted = predict_measured(_as_a_client(data, str(out), is_integer=compressed.is_integer))
    measured = score(predicted) if images.measure_labelled else None
    comparison = compare(predicted, originals())
    num_measured = len(predicted.labels)
    record = _with_measured(record, num_measured, measured, comparison)
    data = encode(dataclasses.replace(compressed, record=record))
    write_bytes_atomically(out, data)
    shutil.rmtree(work.path)
    rows = layer_sizes(compressed.layers)
    if isinstance(settings, DeepCompressionSettings):
        huffman_bytes = len(encode(dataclasses.replace(compressed, record=record), "huffman"))
        stages.append(huffman_row(rows, huffman_bytes))
    stages.append(coded_row(rows, len(data), measured, stage="range coder"))
    return CompressionReport(
        file_bytes=len(data),
        method=_method(settings),
        original_bytes=stages[0].bytes,
        stages=tuple(stages),
        layers=tuple(rows),
        comparison=comparison,
        measured_images=num_measured,
        measured_labelled=images.measure_labelled,
        max_drop=max_drop,
        target_bytes=settings.target_bytes,
    )


def _as_a_client(data: bytes, where: str, *, is_integer: bool) -> LogitsFn:
    if is_integer:
        return Classifier(data, threads=default_workers()).logits
    return FloatInterpreter(decode(data, where)).logits


def _method(settings: Settings) -> str:
    return "rd" if isinstance(settings, RateDistortionSettings) else "deep-compression"


def _drop(comparison: Comparison, *, labelled: bool) -> float:
    """Points of top-1 lost; without labels, percent of predicted that changed."""
    return -comparison.top1_difference if labelled else 100 - comparison.agreement


def _record(
    folded: ModelRecord, source: SourceFile | None, settings: Settings, seed: int
) -> ModelRecord:
    """The record of the file: that of the folded network, and where it comes from."""
    provenance = {
        "method": _method(settings),
        "made_by": f"squeezenet {__version__}",
        "settings": to_plain(settings),
        "source": folded.provenance,
        "seed": seed,
    }
    if source is not None:
        provenance["source_sha256"] = source.sha256
    return dataclasses.replace(folded, provenance=provenance)


def _with_measured(
    record: ModelRecord, num_images: int, measured: Evaluation | None, comparison: Comparison
) -> ModelRecord:
    """The record with what the file was measured to do."""
    values = {"agreement": comparison.agreement, "kl": comparison.kl}
    if measured is not None:
        values |= {"top1": measured.top1, "top5": measured.top5}
    rounded = {name: round(value, 4) for name, value in values.items()}
    provenance = record.provenance | {"measured": {"images": num_images, **rounded}}
    return dataclasses.replace(record, provenance=provenance)
