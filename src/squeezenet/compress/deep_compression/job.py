"""Deep Compression (arXiv 1510.00149) in order: fold, prune, retrain, share, fine-tune.

Entropy coding, its third step, is the codec's: a range coder, the paper's Huffman codes beside it.
Every long part goes on where it was killed: the two retraining steps from their checkpoints in the
work folder, the scan's result from a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.codec.types import CompressedLayer, CompressedModel
from squeezenet.compress.deep_compression.sensitivity import scan_densities
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.deep_compression.weight_sharing import (
    SharedNetwork,
    round_floats,
    share_network,
)
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.prune import layer_densities, magnitude_masks
from squeezenet.compress.retrain import Hold, Retraining, pruned, retraining_recipe
from squeezenet.compress.stage_table import StageRow, float_row, pruned_row, shared_row
from squeezenet.data.loader import steps_per_epoch
from squeezenet.errors import QualityError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.files import write_bytes_atomically
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

_DEFAULT_EPOCHS = {"prune": 10, "share": 4}
_MIN_STEPS = {"prune": 500, "share": 300}
"""Unless told otherwise, a small set is gone through more often, to have at least these steps."""
_SCAN_IMAGES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class DeepCompression:
    """One compression job. ``measure`` judges a stage (None: nothing to judge it by), and
    ``file_bytes`` tells what layers take as a finished file."""

    model: LoadedModel
    images: CompressionImages
    settings: DeepCompressionSettings
    base_recipe: Recipe
    measure: Callable[[LoadedModel], Evaluation | None]
    file_bytes: Callable[[tuple[CompressedLayer, ...]], int]
    work: Path
    seed: int
    options: FitOptions

    def run(self) -> tuple[CompressedModel, list[StageRow]]:
        """Compress; return the model and the rows of all stages before the file.

        Raises:
            InterruptedRunError: a signal came; the work folder holds what was done.
            QualityError: ``target_bytes`` cannot be reached.
        """
        settings = self.settings
        hardware = self.options.hardware or choose_hardware()
        original = fold_batch_norm(self.model)
        original.module.to(hardware.device)
        graph = build_graph(original.record.spec)
        num_weights = sum(conv.num_weights for conv in graph.convs)
        num_biases = sum(conv.out_channels for conv in graph.convs)
        rows = [float_row(num_weights, num_biases, self.measure(original))]

        masks = magnitude_masks(original.module, graph, self._densities(original, graph))
        training = Retraining(
            teacher=original,
            images=self.images.retrain,
            labelled=self.images.retrain if self.images.labelled else None,
            seed=self.seed,
            options=self.options,
        )

        def retrain(module: nn.Module, hold: Hold) -> None:
            self._retrain("prune", training, module, settings.prune_epochs, hold)

        student = pruned(self.model, graph, masks, retrain)
        kept = [mask.cpu().numpy() for mask in masks.values()]
        rows.append(pruned_row(kept, num_biases, self.measure(student)))

        bits, layers = self._share(student, graph)
        if settings.share_epochs != 0:
            shared = SharedNetwork(student.module, graph, layers)
            self._retrain("share", training, shared, settings.share_epochs, None)
            layers = shared.layers()
        layers = round_floats(layers)
        result = CompressedModel(record=original.record, layers=layers)
        rows.append(shared_row(layers, bits, self.measure(from_compressed(result))))
        return result, rows

    @property
    def _progress(self) -> Progress:
        return self.options.progress or SilentProgress()

    def _densities(self, model: LoadedModel, graph: Graph) -> dict[str, float]:
        settings = self.settings
        if settings.density is not None or settings.densities:
            return layer_densities(model.module, graph, settings.density, settings.densities)
        cache = self.work / "densities.json"
        known = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
        x_NCHW, targets = self._scan_images(model)
        return scan_densities(
            model,
            graph,
            x_NCHW,
            targets,
            budget=settings.scan_budget,
            progress=self._progress,
            known=known,
            save=lambda chosen: write_bytes_atomically(cache, json.dumps(chosen).encode()),
        )

    def _scan_images(self, model: LoadedModel) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of the retraining set (never of those that measure) and the answers wanted:
        their labels, or without labels what the original says."""
        images = self.images.retrain
        if len(images) > _SCAN_IMAGES:
            order = np.random.default_rng(self.seed).permutation(len(images))[:_SCAN_IMAGES]
            images = images.subset(sorted(order.tolist()))
        prep = model.record.preprocessing
        batches = EvalBatches(images, prep, workers=self.options.workers, bad=self.options.bad)
        parts = [(normalise(b.pixels_NHWC, prep), b.labels) for b in batches]
        x_NCHW = np.concatenate([x for x, _ in parts])
        if self.images.labelled:
            targets = np.concatenate([labels for _, labels in parts])
        else:
            targets = np.concatenate([model.logits(x).argmax(axis=1) for x, _ in parts])
        return torch.from_numpy(x_NCHW), torch.from_numpy(targets)

    def _retrain(
        self,
        stage: str,
        training: Retraining,
        module: nn.Module,
        epochs: int | None,
        hold: Hold | None,
    ) -> None:
        if epochs == 0:
            return
        recipe = self._recipe(stage, epochs)
        folder = RunFolder(self.work / stage)
        folder.open({"stage": stage, "recipe": recipe, "settings": self.settings})
        self._progress.log(f"{stage}: retraining for {recipe.epochs} epochs")
        training.run(module, recipe, folder, hold)

    def _recipe(self, stage: str, epochs: int | None) -> Recipe:
        if epochs is None:
            per_epoch = steps_per_epoch(len(self.images.retrain), self.base_recipe.batch_size)
            epochs = max(_DEFAULT_EPOCHS[stage], -(-_MIN_STEPS[stage] // per_epoch))
        return retraining_recipe(
            self.base_recipe,
            f"deep-compression/{stage}",
            epochs=epochs,
            learning_rate=self.settings.learning_rate * (1.0 if stage == "prune" else 0.3),
            # A centroid's distance from its k-means value must not decay to zero.
            weight_decay=self.base_recipe.weight_decay if stage == "prune" else 0.0,
        )

    def _share(self, student: LoadedModel, graph: Graph) -> tuple[int, tuple[CompressedLayer, ...]]:
        """Cluster with the bits asked for, or the most that ``target_bytes`` allows."""
        state, target = student.module.state_dict(), self.settings.target_bytes
        size = 0
        for bits in range(self.settings.bits, 1, -1):
            layers = share_network(state, graph, bits)
            if target is None:
                return bits, layers
            size = self.file_bytes(round_floats(layers))
            if size <= target:
                return bits, layers
        raise QualityError(
            f"--target-bytes {target}: {size} bytes even with 2 bits a code; prune more with "
            "--density"
        )
