"""Compress a model into a measured ``.sqz`` file, by either method.

A method turns a ``CompressionJob`` into quantized layers. This module prepares the job, then
calibrates the activations, encodes the file, and runs it as a client would. The file is written
with its own measurements in the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet.client import Classifier
from squeezenet.codec.container import decode, encode
from squeezenet.codec.sizes import layer_sizes
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.calibrate import CALIBRATION_IMAGES, calibrated
from squeezenet.compress.deep_compression.job import compress_deep
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.file_record import (
    PLACEHOLDER_TEMPERATURE,
    Settings,
    file_record,
    file_size,
    method_name,
    quantized_tensor_names,
    with_measured,
)
from squeezenet.compress.images import CompressionImages, random_subset
from squeezenet.compress.job import CompressionJob
from squeezenet.compress.measurement import Measurement
from squeezenet.compress.number_range import (
    MAX_LOGIT,
    require_bounded_outputs,
    without_denormals,
)
from squeezenet.compress.rate_distortion.job import compress_rate_distortion
from squeezenet.compress.report import Calibration, CompressionReport
from squeezenet.compress.stage_table import StageRow, coded_row, huffman_row
from squeezenet.compress.temperature import TemperatureFit
from squeezenet.compress.work_folder import remove_work
from squeezenet.data.fingerprint import Fingerprint
from squeezenet.errors import LimitError, QualityError, UsageError, WeightsError
from squeezenet.evaluation.metrics import Comparison, Evaluation
from squeezenet.evaluation.predict import LogitsFn
from squeezenet.files import write_bytes_atomically
from squeezenet.images.batches import EvalBatches, default_workers
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import SilentProgress
from squeezenet.reference.float_interpreter import FloatInterpreter
from squeezenet.reference.integer_parameters import integer_parameters
from squeezenet.train.distributed.evaluation import batches_of_rank
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import keep_freed_memory
from squeezenet.train.recipe import Recipe
from squeezenet.train.run import require_same_images
from squeezenet.train.run_folder import RunFolder

_NUM_CHECKED = 16
"""Images on which a network's outputs are looked at before the work."""


def compress_model(
    model: LoadedModel,
    images: CompressionImages,
    out: Path,
    settings: Settings,
    base_recipe: Recipe,
    *,
    seed: int = 0,
    max_drop: float | None = None,
    temperature: bool = True,
    options: FitOptions | None = None,
) -> CompressionReport:
    """Compress ``model`` into ``out`` by the settings' method, and measure the file.

    ``temperature``: fit one on the measured images, if they have labels.

    Every rank calls this with the same arguments: they share what runs images, and rank 0 alone
    rounds, reads and writes.

    A folder ``OUT.work`` beside it holds the checkpoints of an interrupted call, and is locked. It
    is removed at the end. ``max_drop`` goes into the report, whose ``require_quality`` checks it.

    Raises:
        InterruptedRunError: a signal came; the same call resumes.
        QualityError: the settings ask for a size or a quality that cannot be reached.
        CheckpointError: the work folder belongs to other settings or images, or another process
            works in it.
    """
    options = options or FitOptions()
    ranks = options.ranks
    progress = options.progress or SilentProgress()
    keep_freed_memory()
    model = without_denormals(model)
    some = random_subset(images.retrain, _NUM_CHECKED, seed)
    batches = EvalBatches(some, model.record.preprocessing, workers=0, bad=options.bad)
    runs_in_integers = bool(quantized_tensor_names(model.record, settings))
    require_bounded_outputs(model, batches, max_logit=MAX_LOGIT if runs_in_integers else math.inf)
    work = RunFolder(out.with_name(out.name + ".work"))
    known = images.fingerprint(work.known_data())
    job_settings = _work_settings(
        model, known, settings, base_recipe, seed, temperature=temperature
    )
    ranks.require_equal({key: value for key, value in job_settings.items() if key != "data"})
    require_same_images(known.summary, ranks)
    ranks.on_main(lambda: work.check(job_settings, known))
    with contextlib.ExitStack() as lock:
        ranks.on_main(lambda: _open(work, lock, job_settings, known))
        measurement = Measurement(model, images, options)
        fitted = TemperatureFit(model, measurement, images, progress, is_wanted=temperature)
        record = file_record(
            model, settings, seed, PLACEHOLDER_TEMPERATURE if fitted.is_wanted else 1.0
        )

        def finished(made: CompressedModel) -> LogitsFn:
            ready = dataclasses.replace(_calibrate(job, settings, made), record=record)
            _require_integers(ready, model)
            return _client(encode(ready), str(out), is_integer=ready.is_integer)

        job = CompressionJob(
            model=model,
            images=images,
            base_recipe=base_recipe,
            measure=measurement.accuracy,
            measure_drop=measurement.drop,
            file_drop=lambda made: measurement.drop_of(finished(made)),
            file_bytes=file_size(
                record, settings, len(images.measure), labelled=images.measure_labelled
            ),
            temperature=fitted.fit,
            work=work.path,
            seed=seed,
            options=options,
        )
        try:
            compressed, stages = _run_method(job, settings)
        except (QualityError, UsageError):
            # Nothing to resume from: the next call will have other settings.
            if ranks.is_main:
                remove_work(work, progress)
            raise
        record = file_record(model, settings, seed, fitted.value)
        compressed = dataclasses.replace(_calibrate(job, settings, compressed), record=record)
        _require_integers(compressed, model)
        file = _encode_measured(compressed, measurement, fitted, str(out))
        ranks.on_main(lambda: write_bytes_atomically(out, file.data))
        ranks.on_main(lambda: remove_work(work, progress))
    return _report(file, stages, job, settings, max_drop)


def _open(
    work: RunFolder, lock: contextlib.ExitStack, settings: dict[str, Any], images: Fingerprint
) -> None:
    lock.enter_context(work.lock())
    work.open(settings, images)


def _report(
    file: _MeasuredFile,
    stages: list[StageRow],
    job: CompressionJob,
    settings: Settings,
    max_drop: float | None,
) -> CompressionReport:
    """The report, whose last stages are of the file itself."""
    sizes = layer_sizes(file.model.layers)
    if isinstance(settings, DeepCompressionSettings):
        stages.append(huffman_row(sizes, len(encode(file.model, "huffman"))))
    stages.append(coded_row(sizes, len(file.data), file.accuracy, stage="range coder"))
    return CompressionReport(
        file_bytes=len(file.data),
        method=method_name(settings),
        original_bytes=stages[0].bytes,
        stages=tuple(stages),
        layers=tuple(sizes),
        comparison=file.comparison,
        measured_images=file.num_images,
        measured_labelled=job.images.measure_labelled,
        calibration=file.calibration,
        search=tuple(job.tried),
        training=tuple(job.trained),
        max_drop=max_drop,
        target_bytes=settings.target_bytes,
    )


def _work_settings(
    model: LoadedModel,
    images: Fingerprint,
    settings: Settings,
    base_recipe: Recipe,
    seed: int,
    *,
    temperature: bool,
) -> dict[str, Any]:
    """What a call must have in common with the one that it resumes."""
    return {
        "architecture": model.record.spec.name,
        "source": model.source.sha256 if model.source else None,
        "method": method_name(settings),
        "settings": settings,
        "recipe": base_recipe,
        "data": images.summary,
        "seed": seed,
        "temperature": temperature,
    }


def _run_method(job: CompressionJob, settings: Settings) -> tuple[CompressedModel, list[StageRow]]:
    if isinstance(settings, DeepCompressionSettings):
        return compress_deep(job, settings)
    return compress_rate_distortion(job, settings)


def _calibrate(
    job: CompressionJob, settings: Settings, compressed: CompressedModel
) -> CompressedModel:
    """Return the model with activation scales, where its file has any."""
    if not quantized_tensor_names(compressed.record, settings):
        return compressed
    batches = batches_of_rank(
        random_subset(job.images.retrain, CALIBRATION_IMAGES, job.seed),
        job.model.record.preprocessing,
        workers=job.options.workers,
        bad=job.options.bad,
        ranks=job.options.ranks,
    )
    return calibrated(compressed, batches, progress=job.options.progress, ranks=job.options.ranks)


def _require_integers(compressed: CompressedModel, model: LoadedModel) -> None:
    """Refuse a model that integer clients refuse, by the name of the layer.

    Raises:
        WeightsError: an accumulator or a multiplier is beyond INTEGER.md's limits.
    """
    if not compressed.is_integer:
        return
    try:
        integer_parameters(compressed)
    except LimitError as error:
        where = str(model.source.path) if model.source else model.record.spec.name
        raise WeightsError(
            f"{where}: {error}; its weights and biases differ too much in size for integers"
        ) from None


@dataclass(frozen=True, kw_only=True, eq=False)
class _MeasuredFile:
    """``data`` is the encoded ``model``, whose record holds the measurements."""

    data: bytes
    model: CompressedModel
    accuracy: Evaluation | None
    comparison: Comparison
    calibration: Calibration | None
    num_images: int


def _encode_measured(
    compressed: CompressedModel, measurement: Measurement, fitted: TemperatureFit, where: str
) -> _MeasuredFile:
    """Encode the file, measure it as clients run it, and encode it again with the measurements.

    The second encoding changes the record and no layer.
    """
    network = _client(encode(compressed), where, is_integer=compressed.is_integer)
    predicted = measurement.predict(network)
    accuracy = measurement.accuracy_of(predicted)
    calibration = fitted.calibration(predicted)
    comparison = measurement.compare(fitted.removed(predicted))
    num_images = len(predicted.labels)
    record = with_measured(compressed.record, num_images, accuracy, comparison, calibration)
    model = dataclasses.replace(compressed, record=record)
    return _MeasuredFile(
        data=encode(model),
        model=model,
        accuracy=accuracy,
        comparison=comparison,
        calibration=calibration,
        num_images=num_images,
    )


def _client(data: bytes, where: str, *, is_integer: bool) -> LogitsFn:
    if is_integer:
        return Classifier(data, threads=default_workers()).logits
    return FloatInterpreter(decode(data, where)).logits
