"""The bytes that method ``rd`` will need for a network, without compressing it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from squeezenet.compress.file_record import file_record, file_size
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.job import CompressionJob
from squeezenet.compress.rate_distortion.job import estimate_file_bytes
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.work_folder import CURVATURE
from squeezenet.images.sets import ImageSet
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.fit import FitOptions
from squeezenet.train.recipe import Recipe


def estimated_file_bytes(
    model: LoadedModel,
    images: ImageSet,
    settings: RateDistortionSettings,
    work: Path,
    *,
    options: FitOptions | None = None,
) -> int:
    """Return about how many bytes the ``.sqz`` of a model will have at ``settings.divergence``.

    ``images`` are to calibrate on; ``work`` is a new folder for what an interrupted call goes on
    with, and is removed at the end.

    Raises:
        InterruptedRunError: a signal came.
        WeightsError: the network cannot be compressed.
    """
    no_labels = np.zeros(len(images), np.int64)
    unlabelled = images.subset(range(len(images)), no_labels)
    work.mkdir(parents=True, exist_ok=True)
    job = CompressionJob(
        model=model,
        images=CompressionImages(
            retrain=unlabelled, labelled=False, measure=unlabelled, measure_labelled=False
        ),
        base_recipe=Recipe(name="estimate"),
        measure=lambda stage: None,
        measure_drop=lambda stage: 0.0,
        file_drop=lambda made: 0.0,
        file_bytes=file_size(
            file_record(model, settings, 0), settings, len(images), labelled=False
        ),
        work=work,
        seed=0,
        options=options or FitOptions(),
    )
    num_bytes = estimate_file_bytes(job, settings)
    (work / CURVATURE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's file is in it
        work.rmdir()
    return num_bytes
