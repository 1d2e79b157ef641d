"""What the stages of one ``rd`` job share: the folded original, its graph, and the images.

The images to retrain with are split once more: some are held out, and choose between candidates
that the others produced. Curvature is measured on both, since all candidates come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.codec.numerics import Float32Array
from squeezenet.codec.sizes import layer_sizes
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.file_record import UNKNOWN_BYTES
from squeezenet.compress.images import FULL_TRAINING_IMAGES, random_subset
from squeezenet.compress.job import CompressionJob
from squeezenet.compress.number_range import without_denormals
from squeezenet.compress.rate_distortion.checkpoint import (
    load_class_fisher,
    load_curvatures,
    save_class_fisher,
    save_curvatures,
)
from squeezenet.compress.rate_distortion.class_fisher import max_rank, measure_class_fisher
from squeezenet.compress.rate_distortion.curvature import Curvature, measure_curvature
from squeezenet.compress.rate_distortion.layer_inputs import num_paired_images
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.settings import EFFORT_PRESETS, RateDistortionSettings
from squeezenet.compress.stage_table import StageRow, coded_row
from squeezenet.compress.work_folder import (
    CLASS_FISHER,
    CURVATURE,
    PRUNED_CLASS_FISHER,
    PRUNED_CURVATURE,
    read_whole,
)
from squeezenet.errors import InterruptedRunError
from squeezenet.evaluation.predict import LabelledLogits, LogitsFn
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.images.sets import ImageSet
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.model.temperature import multiply_logits, with_tempered_head
from squeezenet.train.distributed.evaluation import batches_of_rank, predict_on_ranks
from squeezenet.train.distributed.ranks import Ranks
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.stop import StopSignals

T = TypeVar("T")

HELD_OUT_SHARE, MAX_HELD_OUT = 0.2, 500
"""Share and number of the images that choose between candidates. A KL divergence on some hundred
images is known to a few percent (docs/experiments)."""

GRADIENT_BATCH = 16
"""Images at a time where gradients are computed, which needs all activations. With v1.0 a process
takes 2.3 GB; with 32 it is no faster and takes 4.2 GB, with 8 it is a tenth slower."""
CLASS_IMAGES_FACTOR = 3
"""Images for the Fisher matrices of the classes, for each of the curvature's. On v1.1 one takes an
eighth of the time: it is only run forward."""
_CLASSES = {CURVATURE: CLASS_FISHER, PRUNED_CURVATURE: PRUNED_CLASS_FISHER}
"""Work file of the classes' Fisher matrices, by that of the curvature."""


class Session:
    """One job of method ``rd``, opened on its device."""

    def __init__(self, job: CompressionJob, settings: RateDistortionSettings) -> None:
        self.job, self.settings = job, settings
        self.preset = EFFORT_PRESETS[settings.effort]
        hardware = job.options.hardware or choose_hardware()
        self.original = without_denormals(fold_batch_norm(job.model))
        self.original.module.to(hardware.device)
        self.graph: Graph = build_graph(self.original.record.spec)
        self._temperature = 1.0
        images = job.images.retrain
        order = images.shuffled(np.random.default_rng(job.seed))
        num_held_out = min(MAX_HELD_OUT, max(1, round(HELD_OUT_SHARE * len(images))))
        self.held_out = images.subset(sorted(order[:num_held_out].tolist()))
        self.learn = images  # a single image has to do for both
        if num_held_out < len(images):
            self.learn = images.subset(sorted(order[num_held_out:].tolist()))

    @property
    def retrains(self) -> bool:
        """Whether labels teach at a full training's rate, with which few images would overfit."""
        many = self.job.images.labelled and len(self.learn) >= FULL_TRAINING_IMAGES
        return many and self.preset.retraining_steps > 0

    @property
    def ranks(self) -> Ranks:
        """The processes that do this job."""
        return self.job.options.ranks

    def batches(self, images: ImageSet, batch_size: int = 32) -> EvalBatches:
        """Return images in batches, cropped for the network: of several ranks, this one's part."""
        options = self.job.options
        return batches_of_rank(
            images,
            self.original.record.preprocessing,
            workers=options.workers,
            batch_size=batch_size,
            bad=options.bad,
            ranks=options.ranks,
        )

    def gradient_batches(self, images: ImageSet) -> EvalBatches:
        """Return images in batches to compute gradients with."""
        return self.batches(images, GRADIENT_BATCH)

    def predict(self, network: LogitsFn, images: ImageSet) -> LabelledLogits:
        """Return a network's logits on images that all ranks share."""
        return predict_on_ranks(network, self.original.record, self.batches(images), self.ranks)

    def compressed(self, network: QuantizedNetwork) -> CompressedModel:
        """Return a quantized network with the record of the original."""
        return CompressedModel(record=self.original.record, layers=network.layers())

    def model(self, network: QuantizedNetwork) -> LoadedModel:
        """Return a quantized network as a torch model on the CPU, its logits without the
        temperature."""
        model = from_compressed(self.compressed(network))
        multiply_logits(model.module, self._temperature)
        return model

    def with_temperature(self, base: LoadedModel, temperature: float) -> LoadedModel:
        """Return ``base`` with its last convolution divided by ``temperature``, to be rounded.

        It predicts as before. Quantized networks are taken to be of such weights from now on.
        """
        self._temperature = temperature
        return with_tempered_head(base, temperature)

    def model_on_device(self, network: QuantizedNetwork) -> LoadedModel:
        """Return a quantized network as a torch model on the device of the original."""
        model = self.model(network)
        model.module.to(next(self.original.module.parameters()).device)
        return model

    @property
    def max_file_bytes(self) -> int | None:
        """What ``file_bytes`` may be, so that the file has at most the target's bytes."""
        target = self.settings.target_bytes
        return None if target is None else target - UNKNOWN_BYTES

    def file_bytes(self, network: QuantizedNetwork) -> int:
        """Return the size of the finished file."""
        return self.job.file_bytes(network.layers())

    def row(self, stage: str, network: QuantizedNetwork) -> StageRow:
        """Measure a stage for the table."""
        measured = self.job.measure(self.model(network))
        sizes = layer_sizes(network.layers())
        return coded_row(sizes, self.file_bytes(network), measured, stage=stage)

    def level_search(
        self, model: LoadedModel, name: str, *, only_estimates: bool = False
    ) -> LevelSearch:
        """Return the search for levels of a folded model; ``name``: work file of its curvature.

        ``only_estimates``: ``round`` will not be called, so what it alone needs is not measured.
        """
        state = model.module.state_dict()
        weights = {
            conv.name: (
                state[f"{conv.key}.weight"].cpu().numpy(),
                state[f"{conv.key}.bias"].cpu().numpy(),
            )
            for conv in self.graph.convs
        }
        return LevelSearch(
            self.graph,
            weights,
            self._curvatures(model, name),
            self.ranks,
            images=self._paired_images,
            class_roots_ORP=(None if only_estimates else self._class_fisher(model, _CLASSES[name])),
            progress=self.job.progress,
        )

    def _paired_images(self) -> list[torch.Tensor]:
        """Some images to run through a network as it is rounded: rank 0's alone."""
        images = random_subset(self.learn, num_paired_images(self.graph), self.job.seed)
        preprocessing = self.original.record.preprocessing
        options = self.job.options
        batches = EvalBatches(images, preprocessing, workers=options.workers, bad=options.bad)
        return [torch.from_numpy(normalise(x.pixels_NHWC, preprocessing)) for x in batches]

    def _class_fisher(self, model: LoadedModel, name: str) -> Float32Array | None:
        """Return the classes' Fisher matrices, from the work file ``name`` if it has them."""
        if not max_rank(self.graph.convs[-1]):
            return None
        num_images = CLASS_IMAGES_FACTOR * self.preset.curvature_images
        images = random_subset(self.job.images.retrain, num_images, self.job.seed)
        return self._read_or_measure(
            name,
            load_class_fisher,
            lambda check: measure_class_fisher(
                copy_model(model),
                self.graph,
                self.batches(images),
                progress=self.job.progress,
                check=check,
                ranks=self.ranks,
            ),
            save_class_fisher,
        )

    def _curvatures(self, model: LoadedModel, name: str) -> Mapping[str, Curvature]:
        """Return the layers' curvatures, from the work file ``name`` if it has them."""
        job = self.job
        num_wanted = self.preset.curvature_images
        images = random_subset(job.images.retrain, num_wanted, job.seed)
        # Mirrored images count too if the images are at most half of what the effort asks for.
        mirrored = job.base_recipe.augmentation.flip and 2 * len(images) <= num_wanted
        return self._read_or_measure(
            name,
            load_curvatures,
            lambda check: measure_curvature(
                copy_model(model),
                self.graph,
                self.gradient_batches(images),
                seed=job.seed,
                mirrored=mirrored,
                progress=job.progress,
                check=check,
                ranks=self.ranks,
            ),
            save_curvatures,
        )

    def _read_or_measure(
        self,
        name: str,
        load: Callable[[Path, Graph], T | None],
        measure: Callable[[Callable[[], None]], T],
        save: Callable[[Path, T], None],
    ) -> T:
        """Return what the work file ``name`` holds, else measure and save it.

        ``measure`` is given what it calls after every batch, which raises once a signal has come.
        """
        path = self.job.work / name
        saved = self.ranks.on_main(
            lambda: read_whole(path, lambda file: load(file, self.graph), self.job.progress)
        )
        if saved is not None:
            return saved
        with StopSignals() as stop:
            found = measure(lambda: self.raise_if_stopped(stop))
            self.ranks.on_main(lambda: save(path, found))
        return found

    def raise_if_stopped(self, stop: StopSignals) -> None:
        """Leave the job if a signal came.

        Raises:
            InterruptedRunError: names the work folder, from which the same command resumes.
        """
        if stop.received is not None:
            raise InterruptedRunError(
                f"stopped; {self.job.work} holds what was done; run the same command to resume",
                stop.received,
            )
