"""Method ``rd``: integer levels that minimise J = KL + λ * bits over the whole network.

1. ``curvature`` and ``class_fisher``: how much the KL divergence rises when a weight changes.
2. ``prune_first``, where labels teach and images are many: prune and retrain.
3. ``level_search`` and ``size_search``: scales and levels at one λ, one layer after another.
4. ``scale_bias_correction``: the errors that all layers share.
5. ``level_training``, without step 2: train the levels.

Only step 2 needs labels. The results of steps 4 and 5 are kept if held-out images agree. The work
folder holds the curvature, the network after each pass and the checkpoints of the trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.codec.types import ActivationScale, CompressedModel
from squeezenet.compress.calibrate import CALIBRATION_IMAGES, calibrated
from squeezenet.compress.images import random_subset
from squeezenet.compress.job import CompressionJob
from squeezenet.compress.rate_distortion.candidates import CandidateChoice
from squeezenet.compress.rate_distortion.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.level_training import LevelTraining
from squeezenet.compress.rate_distortion.prune_first import (
    load_density,
    prune_and_retrain,
    save_density,
)
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.scale_bias_correction import DAMPINGS, measure_correction
from squeezenet.compress.rate_distortion.session import Session
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.rate_distortion.size_search import (
    Judgement,
    judge_drop,
    judge_size,
    search_network,
)
from squeezenet.compress.rate_distortion.trellis_rounding import NARROWEST, SearchWidth
from squeezenet.compress.stage_table import StageRow, float_row, pruned_row
from squeezenet.compress.work_folder import (
    CURVATURE,
    FINER,
    NETWORK,
    PRUNED_CURVATURE,
    read_whole,
)
from squeezenet.model.loaded import LoadedModel
from squeezenet.train.stop import StopSignals

NARROWEST_EXCESS = 1.044
"""Bytes of the narrowest search in those of ``compress`` at the same divergence. Three networks of
CIFAR-10 with 187,018 and 367,050 parameters had 1.029 to 1.054 (bench/size_estimates.py)."""
FINER_LAMBDA = 0.5
"""Factor of λ from one try to the next where a file loses more than it may: a weight gets half a
bit more each time."""


def compress_rate_distortion(
    job: CompressionJob, settings: RateDistortionSettings
) -> tuple[CompressedModel, list[StageRow]]:
    """Compress; return the model and the rows of all stages before the file.

    Raises:
        InterruptedRunError: a signal came; the work folder holds what was done.
        QualityError: ``target_bytes`` or ``max_drop`` cannot be reached.
    """
    session = Session(job, settings)
    num_weights = sum(conv.num_weights for conv in session.graph.convs)
    num_biases = sum(conv.out_channels for conv in session.graph.convs)
    rows = [float_row(num_weights, num_biases, job.measure(session.original))]
    base = session.original
    if session.retrains:
        density = session.ranks.on_main(lambda: load_density(session))
        if density is None:
            search = session.level_search(base, CURVATURE, only_estimates=True)
            density = _search(session, search, NARROWEST).density()
            save_density(session, density)
        base, kept = prune_and_retrain(session, density)
        rows.append(pruned_row(kept, num_biases, job.measure(base)))
        base = session.with_temperature(base, job.temperature(base))
        search = session.level_search(base, PRUNED_CURVATURE)
    else:
        base = session.with_temperature(base, job.temperature(job.model))
        search = session.level_search(base, CURVATURE)

    width = session.preset.width
    network, activations = _rounded_and_corrected(
        session, base, NETWORK, lambda: _search(session, search, width), rows
    )
    rows.append(session.row("corrected", network))
    if session.preset.training_steps and not session.retrains:
        choice = CandidateChoice(session, activations)
        trained = _train(session, base, network, choice)
        network = choice.best([network, trained], session.original)
        rows.append(session.row("trained", network))
    if settings.max_drop is not None:
        finer = _within_drop(session, base, search, network, settings.max_drop)
        if finer is not network:
            rows.append(session.row("finer", finer))
        network = finer
    return session.compressed(network), rows


def estimate_file_bytes(job: CompressionJob, settings: RateDistortionSettings) -> int:
    """Return about how many bytes the file will have, in a fraction of the time.

    The levels are searched by estimates alone, with the narrowest search, and nothing is corrected
    or trained. What the narrowest search takes more than the default one is taken off.

    Raises:
        InterruptedRunError: see ``compress_rate_distortion``.
    """
    session = Session(job, settings)
    base = session.with_temperature(session.original, 1.0)
    search = session.level_search(base, CURVATURE, only_estimates=True)
    return round(session.file_bytes(_search(session, search, NARROWEST)) / NARROWEST_EXCESS)


def _rounded_and_corrected(
    session: Session,
    base: LoadedModel,
    name: str,
    rounded: Callable[[], QuantizedNetwork],
    rows: list[StageRow] | None = None,
) -> tuple[QuantizedNetwork, Mapping[str, ActivationScale]]:
    """Round, then correct scales and biases; return the activation scales of the correction too.

    ``name``: the file in the work folder that keeps what is done. ``rows`` gets the row of what
    ``rounded`` returns, where this call rounds.
    """
    job = session.job
    path = job.work / name
    ranks = session.ranks
    checkpoint = ranks.on_main(
        lambda: read_whole(path, lambda file: load_checkpoint(file, session.graph), job.progress)
    )
    if checkpoint is None:
        network = rounded()
        activations = _activation_scales(session, network)
        checkpoint = Checkpoint(passes=0, network=network, activations=activations)
        _save(session, path, checkpoint)
    network, activations = checkpoint.network, checkpoint.activations
    if checkpoint.passes == 0 and rows is not None:
        rows.append(session.row("rounded", network))
    choice = CandidateChoice(session, activations)
    for i in range(checkpoint.passes, session.preset.correction_passes):
        candidates = _corrections(session, base, network, activations, i)
        if candidates:
            network = choice.best([network, *candidates], base)
        checkpoint = Checkpoint(passes=i + 1, network=network, activations=activations)
        _save(session, path, checkpoint)
    return network, activations


def _save(session: Session, path: Path, checkpoint: Checkpoint) -> None:
    session.ranks.on_main(lambda: save_checkpoint(path, checkpoint))


def _within_drop(
    session: Session,
    base: LoadedModel,
    search: LevelSearch,
    network: QuantizedNetwork,
    max_drop: float,
) -> QuantizedNetwork:
    """Return the network if its finished file loses at most ``max_drop``, else a finer one.

    The search judges networks as they are rounded, in float32. What counts is the file: corrected,
    and in integers. If no try is within the bound, the least lossy one is returned.
    """
    job, width = session.job, session.preset.width
    best, least_lost = network, job.file_drop(session.compressed(network))
    lambda_ = network.lambda_
    for name in FINER:
        if least_lost <= max_drop:
            break
        job.progress.log(
            f"the file loses {least_lost:.2f}, expected at most {max_drop:g}: a finer one is made"
        )
        lambda_ *= FINER_LAMBDA
        found, _ = _rounded_and_corrected(
            session, base, name, partial(search.round, lambda_, width)
        )
        lost = job.file_drop(session.compressed(found))
        if lost < least_lost:
            best, least_lost = found, lost
    return best


def _search(session: Session, search: LevelSearch, width: SearchWidth) -> QuantizedNetwork:
    """Find the network at the λ that the settings ask for."""
    job, settings = session.job, session.settings

    def judge(network: QuantizedNetwork) -> Judgement:
        file_bytes = session.file_bytes(network)
        if session.max_file_bytes is not None:
            return judge_size(file_bytes, session.max_file_bytes)
        assert settings.max_drop is not None
        drop = job.measure_drop(session.model(network))
        return judge_drop(file_bytes, drop, settings.max_drop)

    return search_network(search, settings, judge, width, job.progress, job.tried)


def _activation_scales(
    session: Session, network: QuantizedNetwork
) -> Mapping[str, ActivationScale]:
    """Activation scales near those that the file will have; none if it runs in float32 only."""
    if not scaled_tensors(session.graph):
        return {}
    images = random_subset(session.learn, CALIBRATION_IMAGES, session.job.seed)
    found = calibrated(
        session.compressed(network),
        session.batches(images),
        progress=session.job.progress,
        ranks=session.ranks,
    )
    assert found.activations is not None
    return found.activations


def _corrections(
    session: Session,
    base: LoadedModel,
    network: QuantizedNetwork,
    activations: Mapping[str, ActivationScale],
    i: int,
) -> list[QuantizedNetwork]:
    """The candidates of correction pass ``i`` towards ``base``, one per damping.

    Each pass sees other images than the one before, where there are enough. Without a readable
    image there is no candidate.
    """
    job, preset = session.job, session.preset
    order = session.learn.shuffled(np.random.default_rng([job.seed, 1]))
    num_images = min(len(order), preset.correction_images)
    chosen = sorted(np.roll(order, -i * num_images)[:num_images].tolist())
    student = session.model_on_device(network)
    with (
        StopSignals() as stop,
        rounded_activations(student.module, session.graph, activations),
    ):
        correction = measure_correction(
            student,
            base,
            session.graph,
            session.gradient_batches(session.learn.subset(chosen)),
            seed=job.seed + i,
            progress=job.progress,
            title=f"correct {i + 1}/{preset.correction_passes}",
            check=lambda: session.raise_if_stopped(stop),
            ranks=session.ranks,
        )
    if correction is None:
        return []
    return session.ranks.on_main(
        lambda: [correction.corrected(network, damping) for damping in DAMPINGS]
    )


def _train(
    session: Session, base: LoadedModel, network: QuantizedNetwork, choice: CandidateChoice
) -> QuantizedNetwork:
    """Train levels, scales and biases; the file may use the bytes that are allowed, or no more."""
    job = session.job

    training = LevelTraining(
        original=base,
        graph=session.graph,
        images=session.learn,
        labelled=job.images.retrain if job.images.labelled else None,
        base_recipe=job.base_recipe,
        max_steps=session.preset.training_steps,
        size=session.file_bytes,
        max_bytes=session.max_file_bytes or session.file_bytes(network),
        divergence=lambda found: choice.divergence(found, session.original),
        work=job.work,
        seed=job.seed,
        options=job.options,
    )
    trained, points = training.run(network)
    job.trained.extend(points)
    return trained
