"""Deep Compression (arXiv 1510.00149) in order: fold, prune, retrain, share weights, fine-tune.

Its third step, entropy coding, is the codec's: a range coder, with the paper's Huffman codes for
comparison. Every long part resumes where it was killed: both retrainings from their checkpoints in
the work folder, the scan from its saved densities.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.codec.types import CompressedLayer, CompressedModel
from squeezenet.compress.deep_compression.sensitivity import scan_densities
from squeezenet.compress.deep_compression.settings import MIN_BITS, DeepCompressionSettings
from squeezenet.compress.deep_compression.weight_sharing import (
    SharedNetwork,
    round_floats,
    share_network,
    with_shared_temperature,
)
from squeezenet.compress.file_record import UNKNOWN_BYTES
from squeezenet.compress.images import random_subset
from squeezenet.compress.job import CompressionJob
from squeezenet.compress.number_range import without_denormals
from squeezenet.compress.prune import layer_densities, magnitude_masks, require_layers
from squeezenet.compress.retrain import Hold, Retraining, pruned, retraining_recipe
from squeezenet.compress.stage_table import StageRow, float_row, pruned_row, shared_row
from squeezenet.compress.work_folder import DENSITIES, open_stage, read_densities
from squeezenet.data.epochs import Epochs
from squeezenet.errors import QualityError
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.sealed_files import write_sealed_json
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.recipe import Recipe

DEFAULT_EPOCHS = {"prune": 10, "share": 4}
MIN_STEPS = {"prune": 500, "share": 300}
"""By default, a small set is trained on for more epochs, until there are so many steps."""
SHARE_RATE = 0.3
"""Learning rate of the shared weights, in rates of the pruned ones. No measurement is on record."""
SCAN_IMAGES = 1000
"""Images of the sensitivity scan: one is 0.1 points, a fifth of the default budget."""


def compress_deep(
    job: CompressionJob, settings: DeepCompressionSettings
) -> tuple[CompressedModel, list[StageRow]]:
    """Compress; return the model and the rows of all stages before the file.

    Raises:
        InterruptedRunError: a signal came; the work folder holds what was done.
        QualityError: ``target_bytes`` cannot be reached.
    """
    hardware = job.options.hardware or choose_hardware()
    original = without_denormals(fold_batch_norm(job.model))
    original.module.to(hardware.device)
    graph = build_graph(original.record.spec)
    require_layers(graph, settings.layer_bits, "bits")
    num_weights = sum(conv.num_weights for conv in graph.convs)
    num_biases = sum(conv.out_channels for conv in graph.convs)
    rows = [float_row(num_weights, num_biases, job.measure(original))]

    densities = job.options.ranks.on_main(lambda: _densities(job, settings, original, graph))
    masks = magnitude_masks(original.module, graph, densities)
    training = Retraining(
        teacher=original,
        images=job.images.retrain,
        labelled=job.images.retrain if job.images.labelled else None,
        seed=job.seed,
        options=job.options,
    )

    def retrain(module: nn.Module, hold: Hold) -> None:
        _retrain(job, settings, "prune", training, module, hold)

    student = pruned(job.model, graph, masks, retrain)
    kept = [mask.cpu().numpy() for mask in masks.values()]
    rows.append(pruned_row(kept, num_biases, job.measure(student)))

    bits, layers = job.options.ranks.on_main(lambda: _cluster(job, settings, student, graph))
    if settings.share_epochs != 0:
        shared = SharedNetwork(student.module, graph, layers)
        _retrain(job, settings, "share", training, shared, None)
        layers = shared.layers()
    trained = from_compressed(CompressedModel(record=original.record, layers=layers))
    layers = round_floats(with_shared_temperature(layers, job.temperature(trained)))
    result = CompressedModel(record=original.record, layers=layers)
    rows.append(shared_row(layers, bits, job.measure(from_compressed(result))))
    return result, rows


def _densities(
    job: CompressionJob, settings: DeepCompressionSettings, model: LoadedModel, graph: Graph
) -> dict[str, float]:
    """The density of every layer, as set or from a scan."""
    if settings.density is not None or settings.densities:
        return layer_densities(model.module, graph, settings.density, settings.densities)
    cache = job.work / DENSITIES
    x_NCHW, targets = _scan_images(job, model)
    return scan_densities(
        model,
        graph,
        x_NCHW,
        targets,
        budget=settings.scan_budget,
        progress=job.progress,
        known=read_densities(cache, job.progress),
        save=lambda chosen: write_sealed_json(cache, chosen),
    )


def _scan_images(job: CompressionJob, model: LoadedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and target classes of the scan, from the images to retrain with.

    Targets are the labels, or the original's predictions where there are none.
    """
    prep = model.record.preprocessing
    batches = EvalBatches(
        random_subset(job.images.retrain, SCAN_IMAGES, job.seed),
        prep,
        workers=job.options.workers,
        bad=job.options.bad,
    )
    parts = [(normalise(b.pixels_NHWC, prep), b.labels) for b in batches]
    x_NCHW = np.concatenate([x for x, _ in parts])
    if job.images.labelled:
        targets = np.concatenate([labels for _, labels in parts])
    else:
        targets = np.concatenate([model.logits(x).argmax(axis=1) for x, _ in parts])
    return torch.from_numpy(x_NCHW), torch.from_numpy(targets)


def _retrain(
    job: CompressionJob,
    settings: DeepCompressionSettings,
    stage: str,
    training: Retraining,
    module: nn.Module,
    hold: Hold | None,
) -> None:
    """Retrain after the stage "prune" or "share", unless the settings leave it out."""
    epochs = settings.prune_epochs if stage == "prune" else settings.share_epochs
    if epochs == 0:
        return
    recipe = stage_recipe(job.base_recipe, len(job.images.retrain), settings, stage, epochs)
    given = {"stage": stage, "recipe": recipe, "settings": settings}
    folder = job.options.ranks.on_main(lambda: open_stage(job.work / stage, given, job.progress))
    job.progress.log(f"{stage}: retraining for {recipe.epochs} epochs")
    training.run(module, recipe, folder, hold)


def stage_recipe(
    base: Recipe,
    num_images: int,
    settings: DeepCompressionSettings,
    stage: str,
    epochs: int | None,
) -> Recipe:
    """Return the recipe of a stage, "prune" or "share", of the training ``base``.

    ``epochs`` None: the default for so many images.
    """
    if epochs is None:
        steps = Epochs(num_images=num_images, batch_size=base.batch_size)
        epochs = max(DEFAULT_EPOCHS[stage], math.ceil(steps.num_done(MIN_STEPS[stage])))
    is_prune = stage == "prune"
    return retraining_recipe(
        base,
        f"deep-compression/{stage}",
        epochs=epochs,
        learning_rate=settings.learning_rate * (1.0 if is_prune else SHARE_RATE),
        # A centroid's distance from its k-means value must not decay to zero.
        weight_decay=base.weight_decay if is_prune else 0.0,
    )


def _cluster(
    job: CompressionJob, settings: DeepCompressionSettings, student: LoadedModel, graph: Graph
) -> tuple[dict[str, int], tuple[CompressedLayer, ...]]:
    """Cluster with the bits of the settings, or the most bits that ``target_bytes`` allows."""
    state, target = student.module.state_dict(), settings.target_bytes
    size = 0
    for bits in range(settings.bits, MIN_BITS - 1, -1):
        by_layer = {conv.name: settings.layer_bits.get(conv.name, bits) for conv in graph.convs}
        layers = share_network(state, graph, by_layer)
        if target is None:
            return by_layer, layers
        size = job.file_bytes(round_floats(layers))
        if size + UNKNOWN_BYTES <= target:
            return by_layer, layers
    raise QualityError(
        f"--target-bytes {target}: {size} bytes even with {MIN_BITS} bits per weight; prune more "
        "with --density"
    )
