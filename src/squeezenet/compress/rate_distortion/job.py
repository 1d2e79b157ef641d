"""Method "rd": integer levels by one trade of divergence for bits, in the whole network.

1. ``curvature``: what a change of each weight does to the answers, on calibration images.
2. ``level_search``: steps and levels, layer by layer, at one price a bit.
3. ``gains``: scales and biases of all layers move together, since errors of layers add up.
4. ``tune``: levels are trained by distillation. Where labels teach and images are many, what would
   be rounded to zero is pruned before all that instead, and the network ``retrain``ed without it.

No step needs labels. What the last two change is kept if images that they did not see agree. The
work folder holds the curvature, the levels after each pass and the checkpoints of the training; an
interrupted call goes on from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.codec.sizes import layer_sizes
from squeezenet.codec.types import ActivationScale, CompressedLayer, CompressedModel
from squeezenet.compress.calibrate import CALIBRATION_IMAGES, calibrated
from squeezenet.compress.images import MANY_IMAGES, CompressionImages, some_of
from squeezenet.compress.prune import layer_densities, magnitude_masks
from squeezenet.compress.rate_distortion.checkpoint import (
    SavedLevels,
    load_curvatures,
    load_levels,
    save_curvatures,
    save_levels,
)
from squeezenet.compress.rate_distortion.curvature import Curvature, measure_curvature
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.incremental import Tuning
from squeezenet.compress.rate_distortion.level_search import LevelSearch, NetworkLevels
from squeezenet.compress.rate_distortion.scale_bias_correction import DAMPINGS, measure_gains
from squeezenet.compress.rate_distortion.settings import EFFORTS, RateDistortionSettings
from squeezenet.compress.rate_distortion.size_search import Judgement, choose_price
from squeezenet.compress.rate_distortion.trellis_rounding import NARROW, Breadth
from squeezenet.compress.retrain import Retraining, pruned, retraining_recipe
from squeezenet.compress.stage_table import (
    KeptWeights,
    StageRow,
    coded_row,
    float_row,
    pruned_row,
)
from squeezenet.data.loader import steps_per_epoch
from squeezenet.errors import InterruptedRunError
from squeezenet.evaluation.metrics import Evaluation, compare
from squeezenet.evaluation.predict import LabelledLogits, predict
from squeezenet.files import write_bytes_atomically
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.images.sets import ImageSet
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed
from squeezenet.model.loaded import LoadedModel, copy_model
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import choose_hardware
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder
from squeezenet.train.stop import StopSignals

_TO_CHOOSE, _MOST_TO_CHOOSE = 0.2, 500
"""Share, and number, of the images by which is chosen what the others suggest."""
_MOST_EPOCHS = 40
_UNNORMALISED_RATE = 0.1
"""Of the recipe's rate, which is for networks with batch normalisation. Not measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RateDistortion:
    """One compression job. ``measure`` judges a stage (None: nothing to judge it by), ``drop``
    tells what ``max_drop`` bounds, and ``file_bytes`` what layers take as a finished file."""

    model: LoadedModel
    images: CompressionImages
    settings: RateDistortionSettings
    base_recipe: Recipe
    measure: Callable[[LoadedModel], Evaluation | None]
    drop: Callable[[LoadedModel], float]
    file_bytes: Callable[[tuple[CompressedLayer, ...]], int]
    work: Path
    seed: int
    options: FitOptions

    def run(self) -> tuple[CompressedModel, list[StageRow]]:
        """Compress; return the model and the rows of all stages before the file.

        Raises:
            InterruptedRunError: a signal came; the work folder holds what was done.
            QualityError: ``target_bytes`` or ``max_drop`` cannot be reached.
        """
        return _Job(self).run()


class _Job:
    """What the stages share."""

    def __init__(self, job: RateDistortion) -> None:
        self.job = job
        self.work = EFFORTS[job.settings.effort]
        self.progress: Progress = job.options.progress or SilentProgress()
        hardware = job.options.hardware or choose_hardware()
        self.original = fold_batch_norm(job.model)
        self.original.module.to(hardware.device)
        self.graph: Graph = build_graph(self.original.record.spec)
        images = job.images.retrain
        order = np.random.default_rng(job.seed).permutation(len(images))
        few = min(_MOST_TO_CHOOSE, max(1, round(_TO_CHOOSE * len(images))))
        self.choose = images.subset(sorted(order[:few].tolist()))
        self.learn = images.subset(sorted(order[few:].tolist())) if few < len(images) else images
        self._wanted: dict[LoadedModel, LabelledLogits] = {}
        self._activations: Mapping[str, ActivationScale] = {}

    def run(self) -> tuple[CompressedModel, list[StageRow]]:
        job, graph = self.job, self.graph
        num_weights = sum(conv.num_weights for conv in graph.convs)
        num_biases = sum(conv.out_channels for conv in graph.convs)
        rows = [float_row(num_weights, num_biases, job.measure(self.original))]
        search = self._search_of(self.original, "curvature")
        base = self.original
        if self._retrains:
            base, kept = self._pruned(search)
            rows.append(pruned_row(kept, num_biases, job.measure(base)))
            search = self._search_of(base, "pruned-curvature")
        saved = load_levels(job.work / "levels.npz")
        if saved is None:
            passes = 0
            price, found = self._chosen(search, self.work.breadth)
            self._activations = self._calibrated(search.compressed(found, price))
            self._save(passes, price, found)
        else:
            passes, price, found = saved.passes, saved.price, saved.found
            self._activations = saved.activations
        layers = search.compressed(found, price)
        if not passes:
            rows.append(self._row("rounded", layers))
        for r in range(passes, self.work.passes):
            found = self._adjusted(base, search, found, price, r)
            self._save(r + 1, price, found)
        layers = search.compressed(found, price)
        rows.append(self._row("adjusted", layers))
        if self.work.tuning_steps and not self._retrains:
            tuned = self._tuned(search, found, price)
            found = self._best([found, tuned], self.original, search, price)
            layers = search.compressed(found, price)
            rows.append(self._row("tuned", layers))
        return CompressedModel(record=self.original.record, layers=layers), rows

    def _calibrated(self, layers: tuple[CompressedLayer, ...]) -> Mapping[str, ActivationScale]:
        """Scales of the activations, near those that the file will have; none if it is for float32
        alone."""
        if not scaled_tensors(self.graph):
            return {}
        model = CompressedModel(record=self.original.record, layers=layers)
        images = some_of(self.learn, CALIBRATION_IMAGES, self.job.seed)
        found = calibrated(model, self._batches(images), progress=self.progress)
        assert found.activations is not None
        return found.activations

    def _row(self, stage: str, layers: tuple[CompressedLayer, ...]) -> StageRow:
        job = self.job
        measured = job.measure(self._as_model(layers))
        return coded_row(layer_sizes(layers), job.file_bytes(layers), measured, stage=stage)

    def _as_model(self, layers: tuple[CompressedLayer, ...]) -> LoadedModel:
        return from_compressed(CompressedModel(record=self.original.record, layers=layers))

    def _network(self, layers: tuple[CompressedLayer, ...]) -> LoadedModel:
        """The rounded network on the device of the original."""
        model = self._as_model(layers)
        model.module.to(next(self.original.module.parameters()).device)
        return model

    def _batches(self, images: ImageSet) -> EvalBatches:
        options = self.job.options
        return EvalBatches(
            images, self.original.record.preprocessing, workers=options.workers, bad=options.bad
        )

    def _search_of(self, model: LoadedModel, name: str) -> LevelSearch:
        """The search for levels of a folded network, its curvature kept as ``name``."""
        state = model.module.state_dict()
        weights = {
            conv.name: (
                state[f"{conv.key}.weight"].cpu().numpy(),
                state[f"{conv.key}.bias"].cpu().numpy(),
            )
            for conv in self.graph.convs
        }
        return LevelSearch(self.graph, weights, self._curvatures(model, name))

    def _curvatures(self, model: LoadedModel, name: str) -> dict[str, Curvature]:
        job = self.job
        cache = job.work / f"{name}.npz"
        saved = load_curvatures(cache)
        if saved is not None:
            return saved
        # Those to choose by as well: all that is to be chosen comes of the same curvature.
        images = some_of(job.images.retrain, self.work.curvature_images, job.seed)
        # Where all images there are make up half of what is asked for, or less.
        mirrored = job.base_recipe.augmentation.flip and (
            2 * len(images) <= self.work.curvature_images
        )
        with StopSignals() as stop:
            found = measure_curvature(
                copy_model(model),
                self.graph,
                self._batches(images),
                seed=job.seed,
                mirrored=mirrored,
                progress=self.progress,
                check=lambda: self._stop(stop),
            )
            save_curvatures(cache, found)
        return found

    @property
    def _retrains(self) -> bool:
        """Whether labels teach at a training's rate, which a few images would only spoil."""
        many = self.job.images.labelled and len(self.learn) >= MANY_IMAGES
        return many and self.work.retrain_steps > 0

    def _pruned(self, search: LevelSearch) -> tuple[LoadedModel, KeptWeights]:
        """The original pruned, retrained and folded, and which of its weights are kept."""
        job, graph = self.job, self.graph
        cache = job.work / "density.json"
        if not cache.is_file():
            _, found = self._chosen(search, NARROW)
            codes = np.concatenate([layer.codes_OP.reshape(-1) for layer in found.values()])
            density = np.count_nonzero(codes) / len(codes)
            write_bytes_atomically(cache, json.dumps(density).encode())
        density = json.loads(cache.read_text(encoding="utf-8"))
        module = self.original.module
        masks = magnitude_masks(module, graph, layer_densities(module, graph, density, {}))
        base, batch = job.base_recipe, job.base_recipe.batch_size
        most_epochs = self.work.retrain_steps // steps_per_epoch(len(self.learn), batch)
        normalised = job.model.record.spec.batch_norm
        recipe = retraining_recipe(
            base,
            "rd/prune",
            epochs=max(1, min(_MOST_EPOCHS, most_epochs)),
            learning_rate=base.learning_rate * (1.0 if normalised else _UNNORMALISED_RATE),
            weight_decay=base.weight_decay,
        )
        training = Retraining(
            teacher=self.original,
            images=self.learn,
            labelled=job.images.retrain,
            seed=job.seed,
            options=job.options,
        )
        folder = RunFolder(job.work / "prune")
        folder.open({"stage": "prune", "recipe": recipe, "density": density})
        self.progress.log(f"prune: {density:.1%} of the weights stay, {recipe.epochs} epochs")
        student = pruned(
            job.model, graph, masks, lambda module, hold: training.run(module, recipe, folder, hold)
        )
        student.module.to(next(module.parameters()).device)
        return student, [mask.cpu().numpy() for mask in masks.values()]

    def _chosen(self, search: LevelSearch, breadth: Breadth) -> tuple[float, NetworkLevels]:
        """The price, and the levels at it."""
        return choose_price(search, self.job.settings, self._judged, breadth, self.progress)

    def _judged(self, layers: tuple[CompressedLayer, ...]) -> Judgement:
        settings = self.job.settings
        size = self.job.file_bytes(layers)
        if settings.target_bytes is not None:
            fits = size <= settings.target_bytes
            beyond = math.log(settings.target_bytes / size)
            return Judgement(good=fits, coarser=not fits, beyond=beyond, said=f"{size:,} bytes")
        assert settings.max_drop is not None
        drop = self.job.drop(self._as_model(layers))
        good = drop <= settings.max_drop
        beyond = (drop - settings.max_drop) / 100
        said = f"{size:,} bytes, {drop:.2f} lost"
        return Judgement(good=good, coarser=good, beyond=beyond, said=said)

    def _adjusted(
        self,
        base: LoadedModel,
        search: LevelSearch,
        found: NetworkLevels,
        price: float,
        r: int,
    ) -> NetworkLevels:
        """One pass of ``gains`` towards ``base``, which was rounded, on other images than the pass
        before where there are enough."""
        order = np.random.default_rng([self.job.seed, 1]).permutation(len(self.learn))
        few = min(len(order), self.work.pass_images)
        chosen = sorted(np.roll(order, -r * few)[:few].tolist())
        student = self._network(search.compressed(found, price))
        with (
            StopSignals() as stop,
            rounded_activations(student.module, self.graph, self._activations),
        ):
            gains = measure_gains(
                student,
                base,
                self.graph,
                self._batches(self.learn.subset(chosen)),
                seed=self.job.seed + r,
                progress=self.progress,
                title=f"adjust {r + 1}/{self.work.passes}",
                check=lambda: self._stop(stop),
            )
        if gains is None:
            return found
        moved = [gains.moved(found, damping) for damping in DAMPINGS]
        return self._best([found, *moved], base, search, price)

    def _best(
        self,
        candidates: Sequence[NetworkLevels],
        teacher: LoadedModel,
        search: LevelSearch,
        price: float,
    ) -> NetworkLevels:
        """Return the first of those that diverge least from ``teacher`` on the images to choose by;
        ones that outgrow ``target_bytes`` do not count, but for the first of all."""
        target = self.job.settings.target_bytes
        coded = [(each, search.compressed(each, price)) for each in candidates]
        if target is not None:
            fit = [each for each in coded[1:] if self.job.file_bytes(each[1]) <= target]
            coded = [coded[0], *fit]
        found = [self._divergence(layers, teacher) for _, layers in coded]
        best = int(np.argmin(found))
        self.progress.log(f"divergence {found[0]:.4f} nats, now {found[best]:.4f}")
        return coded[best][0]

    def _divergence(self, layers: tuple[CompressedLayer, ...], teacher: LoadedModel) -> float:
        """The mean divergence in nats on the images to choose by: half of it with activations
        rounded and half in float32, since a file serves clients of both kinds."""
        if teacher not in self._wanted:
            self._wanted[teacher] = self._predictions(teacher, {})
        model = self._network(layers)
        kinds = ({}, self._activations) if self._activations else ({},)
        found = [
            compare(self._predictions(model, scales), self._wanted[teacher]).kl for scales in kinds
        ]
        return sum(found) / len(found)

    def _predictions(
        self, model: LoadedModel, activations: Mapping[str, ActivationScale]
    ) -> LabelledLogits:
        with rounded_activations(model.module, self.graph, activations):
            network = from_pixels(model.logits, model.record.preprocessing)
            return predict(network, model.record, self._batches(self.choose))

    def _tuned(self, search: LevelSearch, found: NetworkLevels, price: float) -> NetworkLevels:
        """Levels, scales and biases trained; the file becomes as large as is allowed, or stays."""
        job = self.job

        def size(levels: NetworkLevels) -> int:
            return job.file_bytes(search.compressed(levels, price))

        return Tuning(
            original=self.original,
            graph=self.graph,
            images=self.learn,
            labelled=job.images.retrain if job.images.labelled else None,
            base_recipe=job.base_recipe,
            steps=self.work.tuning_steps,
            breadth=self.work.breadth,
            size=size,
            folder=lambda name: RunFolder(job.work / name),
            seed=job.seed,
            options=job.options,
        ).run(
            search,
            found,
            price,
            most_bytes=job.settings.target_bytes or size(found),
        )

    def _stop(self, stop: StopSignals) -> None:
        if stop.received is not None:
            raise InterruptedRunError(
                f"stopped; {self.job.work} holds what was done; run the same command to go on",
                stop.received,
            )

    def _save(self, passes: int, price: float, found: NetworkLevels) -> None:
        saved = SavedLevels(passes=passes, price=price, found=found, activations=self._activations)
        save_levels(self.job.work / "levels.npz", saved)
