"""The networks of the table: each is made once, into a file, and opened from there.

trials/alexnet, trials/squeezenet    run folders
files/alexnet-svd.safetensors        tensors of the factorised network, under torch's names
files/*-pruned.safetensors           pruned and retrained; ``squeezenet eval`` opens them
files/*.sqz                          by Deep Compression, and by method rd
work/                                checkpoints of what is being retrained
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.client import Classifier
from squeezenet.compress.deep_compression.job import stage_recipe
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.file_record import Settings
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.low_rank import (
    from_low_rank_state,
    fully_connected,
    low_rank_bytes,
    ranks_of,
    with_low_rank,
)
from squeezenet.compress.prune import layer_densities, magnitude_masks
from squeezenet.compress.rate_distortion.settings import (
    RateDistortionSettings,
    default_divergence,
)
from squeezenet.compress.retrain import Hold, Retraining, base_recipe, pruned
from squeezenet.compress.run import compress_model
from squeezenet.compress.stage_table import pruned_row
from squeezenet.compress.work_folder import open_stage, remove_work
from squeezenet.errors import FormatError, MalformedError
from squeezenet.evaluation.predict import LogitsFn
from squeezenet.explore.compression_table.approaches import (
    ALEXNET,
    ALEXNET_DEEP,
    ALEXNET_PRUNED,
    ALEXNET_SVD,
    SQUEEZENET,
    SQUEEZENET_6,
    SQUEEZENET_8,
    SQUEEZENET_RD,
)
from squeezenet.explore.compression_table.options import (
    ALEXNET_DENSITY,
    SQUEEZENET_DENSITY,
    CompressionTableDefinition,
    max_svd_bytes,
)
from squeezenet.explore.study_folder import StudyFolder
from squeezenet.explore.trial import TrialJob, measures_on_test
from squeezenet.files import make_folder, remove_leftovers
from squeezenet.images.batches import default_workers
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import load_model
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.safetensors_file import load_tensors, save_safetensors, save_tensors
from squeezenet.progress import Progress
from squeezenet.train.plan import plan_training
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

CONV_BITS, FC_BITS = 8, 5
"""Bits per weight of AlexNet's two kinds of layers (arXiv 1510.00149, section 5.2)."""
T = TypeVar("T")
SHARE_PART = 0.4
"""Epochs of retraining shared weights, in epochs of retraining pruned ones; 4 and 10 in
``compress``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TableNetwork:
    """A network of the table, ready to be measured; ``size_of`` says what ``bytes`` counts."""

    network: LogitsFn
    record: ModelRecord
    bytes: int
    size_of: str


class TableNetworks:
    """Makes the networks by the names of their rows.

    What takes long resumes where an interrupted call was. A file that is damaged is made again.
    """

    def __init__(
        self,
        definition: CompressionTableDefinition,
        folder: StudyFolder,
        job: TrialJob,
        progress: Progress,
    ) -> None:
        self._definition, self._job, self._progress = definition, job, progress
        self._trials = folder.trials
        self._files, self._work = folder.path / "files", folder.path / "work"
        self._base = cache(self._trained)
        for each in (self._files, self._work):
            make_folder(each)
        remove_leftovers(self._files)

    def make(self, name: str) -> TableNetwork:
        """Return the network of a row, made if it is not there yet.

        Raises:
            InterruptedRunError: a signal came; the same call resumes.
            SqueezeNetError: it cannot be trained or compressed.
        """
        made: dict[str, Callable[[], TableNetwork]] = {
            ALEXNET: lambda: _float_network(self._base(ALEXNET)),
            SQUEEZENET: lambda: _float_network(self._base(SQUEEZENET)),
            ALEXNET_SVD: self._low_rank_network,
            ALEXNET_PRUNED: lambda: _pruned_network(self._pruned(ALEXNET)),
            ALEXNET_DEEP: lambda: self._deep_compression(name, ALEXNET, self._alexnet_bits()),
            SQUEEZENET_8: lambda: self._deep_compression(name, SQUEEZENET, {"bits": 8}),
            SQUEEZENET_6: lambda: self._deep_compression(name, SQUEEZENET, {"bits": 6}),
            SQUEEZENET_RD: self._rate_distortion,
        }
        return made[name]()

    def _trained(self, name: str) -> LoadedModel:
        """Train a network, and return the weights that ``run_trial`` would measure."""
        definition, job = self._definition, self._job
        spec = definition.alexnet if name == ALEXNET else definition.squeezenet
        run = RunFolder(self._trials / name)
        self._progress.log(f"{name}: training {spec.name}")
        options = definition.training_of(spec)
        plan = plan_training(definition.source, options, self._progress, job.limits)
        plan.run(run.path, job.fit_options(self._progress))
        on_test = measures_on_test(definition.source, job.limits)
        return load_model(run.best if on_test else run.last)

    def _low_rank_network(self) -> TableNetwork:
        file = self._files / f"{ALEXNET_SVD}.safetensors"
        original = self._base(ALEXNET)

        def make() -> None:
            self._progress.log(f"{ALEXNET_SVD}: singular value decompositions")
            module = with_low_rank(original, max_svd_bytes(self._definition.alexnet))
            self._retrain(ALEXNET_SVD, original, module, None)
            save_tensors(file, module.state_dict())

        def read() -> nn.Module:
            try:
                return from_low_rank_state(original, load_tensors(file))
            except RuntimeError as error:
                raise MalformedError(f"{file}: {error}") from None

        module = self._from_file(file, make, read)
        graph = build_graph(original.record.spec)
        return _of_model(
            dataclasses.replace(original, module=module),
            low_rank_bytes(graph, ranks_of(module, graph)),
            "float32 factors, weights and biases",
        )

    def _pruned(self, name: str) -> LoadedModel:
        file = self._files / f"{name}-pruned.safetensors"

        def make() -> None:
            model = self._base(name)
            folded = fold_batch_norm(model)
            graph = build_graph(folded.record.spec)
            density = ALEXNET_DENSITY if name == ALEXNET else SQUEEZENET_DENSITY
            densities = layer_densities(folded.module, graph, density, {})
            masks = magnitude_masks(folded.module, graph, densities)

            def retrain(module: nn.Module, hold: Hold) -> None:
                self._retrain(f"{name}-pruned", model, module, hold)

            student = pruned(model, graph, masks, retrain)
            provenance = {
                "method": "pruned", "density": density, "source": model.record.provenance,
            }  # fmt: skip
            record = dataclasses.replace(student.record, provenance=provenance)
            save_safetensors(file, record, student.module.state_dict())

        return self._from_file(file, make, lambda: load_model(file))

    def _retrain(
        self, name: str, original: LoadedModel, module: nn.Module, hold: Hold | None
    ) -> None:
        """Retrain a module, as ``compress`` does after pruning: labels and the original teach."""
        definition, train = self._definition, self._definition.data.train
        recipe = stage_recipe(
            self._base_recipe(original), len(train), DeepCompressionSettings(), "prune",
            definition.retrain_epochs,
        )  # fmt: skip
        given = {"stage": name, "recipe": recipe}
        folder = open_stage(self._work / name, given, self._progress)
        self._progress.log(f"{name}: retraining for {recipe.epochs} epochs")
        training = Retraining(
            teacher=fold_batch_norm(original),
            images=train,
            labelled=train,
            seed=0,
            options=self._job.fit_options(self._progress),
        )
        training.run(module, recipe, folder, hold)

    def _base_recipe(self, model: LoadedModel) -> Recipe:
        definition = self._definition
        return base_recipe(model.record, definition.source, definition.training.recipe)

    def _alexnet_bits(self) -> dict[str, Any]:
        layers = fully_connected(build_graph(self._definition.alexnet))
        return {"bits": CONV_BITS, "layer_bits": {conv.name: FC_BITS for conv in layers}}

    def _deep_compression(self, name: str, base: str, bits: dict[str, Any]) -> TableNetwork:
        """Share the weights of the pruned network, which also teaches; its zeros stay."""
        epochs = self._definition.retrain_epochs
        settings = DeepCompressionSettings(
            density=1.0,
            prune_epochs=0,
            share_epochs=None if epochs is None else math.ceil(SHARE_PART * epochs),
            **bits,
        )
        file = self._files / f"{name}.sqz"
        model = self._compressed(file, lambda: self._pruned(base), settings)
        return _of_model(model, file.stat().st_size, "the file")

    def _rate_distortion(self) -> TableNetwork:
        definition = self._definition
        settings = RateDistortionSettings(
            effort=definition.effort, divergence=default_divergence(len(definition.data.train))
        )
        file = self._files / f"{SQUEEZENET_RD}.sqz"
        model = self._compressed(file, lambda: self._base(SQUEEZENET), settings)
        return TableNetwork(
            network=Classifier(file.read_bytes(), threads=default_workers()).logits,
            record=model.record,
            bytes=file.stat().st_size,
            size_of="the file, run in integers",
        )

    def _compressed(
        self, file: Path, model: Callable[[], LoadedModel], settings: Settings
    ) -> LoadedModel:
        data = self._definition.data

        def make() -> None:
            loaded = model()
            self._progress.log(f"{file.stem}: compressing")
            compress_model(
                loaded,
                CompressionImages(
                    retrain=data.train, labelled=True, measure=data.val, measure_labelled=True
                ),
                file,
                settings,
                self._base_recipe(loaded),
                options=self._job.fit_options(self._progress),
            )

        found = self._from_file(file, make, lambda: load_model(file))
        leftover = RunFolder(file.with_name(f"{file.name}.work"))
        if leftover.path.is_dir():  # of a call that was killed after it had written the file
            remove_work(leftover, self._progress)
        return found

    def _from_file(self, file: Path, make: Callable[[], None], read: Callable[[], T]) -> T:
        """Return what ``read`` finds in a file that ``make`` writes; its checkpoints go then."""
        if file.is_file():
            try:
                return read()
            except FormatError as error:
                self._progress.log(f"{error}; it is made again")
        make()
        work = RunFolder(self._work / file.stem)
        if work.path.is_dir():
            work.remove()
        return read()


def _of_model(model: LoadedModel, size: int, size_of: str) -> TableNetwork:
    return TableNetwork(
        network=from_pixels(model.logits, model.record.preprocessing),
        record=model.record,
        bytes=size,
        size_of=size_of,
    )


def _float_network(model: LoadedModel) -> TableNetwork:
    folded = dataclasses.replace(model.record.spec, batch_norm=False)
    size = count(build_graph(folded)).weight_bytes
    return _of_model(model, size, "float32 weights and biases")


def _pruned_network(model: LoadedModel) -> TableNetwork:
    """A pruned network, sized as Deep Compression stores one."""
    state, graph = model.module.state_dict(), build_graph(model.record.spec)
    kept = [(state[f"{conv.key}.weight"] != 0).numpy() for conv in graph.convs]
    num_biases = sum(conv.out_channels for conv in graph.convs)
    size = pruned_row(kept, num_biases, None).bytes
    return _of_model(model, size, "float32 weights with gaps of 4 bits, biases")
