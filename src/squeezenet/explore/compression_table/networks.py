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

import torch
from safetensors.torch import load_file, save
from torch import nn

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import NetworkSpec
from squeezenet.client import Classifier
from squeezenet.compress.deep_compression.job import stage_recipe
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.file_record import Settings
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.low_rank import from_low_rank_state, fully_connected, with_low_rank
from squeezenet.compress.prune import layer_densities, magnitude_masks
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.retrain import Hold, Retraining, pruned
from squeezenet.compress.run import compress_model
from squeezenet.compress.stage_table import pruned_row
from squeezenet.compress.work_folder import open_stage
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
from squeezenet.explore.compression_table.options import CompressionTableDefinition
from squeezenet.explore.study_folder import StudyFolder
from squeezenet.explore.trial import TrialJob, measures_on_test
from squeezenet.files import make_folder, write_bytes_atomically
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import load_model
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.safetensors_file import save_safetensors
from squeezenet.progress import Progress
from squeezenet.train.plan import plan_training
from squeezenet.train.run_folder import RunFolder

SVD_REDUCTION = 5
"""How many times smaller the factorised AlexNet is: 240 and 48 MB in the paper."""
ALEXNET_DENSITY, SQUEEZENET_DENSITY = 0.11, 0.33
"""Shares of weights that pruning keeps: those of AlexNet in arXiv 1510.00149 and of SqueezeNet in
table 2's source, its authors' released file."""
CONV_BITS, FC_BITS = 8, 5
"""Bits per weight of AlexNet's two kinds of layers (arXiv 1510.00149, section 5.2)."""
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

    What takes long goes on where an interrupted call was.
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
        self._trained = cache(self._train)

    def make(self, name: str) -> TableNetwork:
        """Return the network of a row, made if it is not there yet.

        Raises:
            InterruptedRunError: a signal came; the same call goes on.
            SqueezeNetError: it cannot be trained or compressed.
        """
        made: dict[str, Callable[[], TableNetwork]] = {
            ALEXNET: lambda: self._whole(self._definition.alexnet),
            SQUEEZENET: lambda: self._whole(self._definition.squeezenet),
            ALEXNET_SVD: self._factorised,
            ALEXNET_PRUNED: lambda: _sparse(self._pruned(ALEXNET)),
            ALEXNET_DEEP: lambda: self._shared(name, ALEXNET, self._alexnet_bits()),
            SQUEEZENET_8: lambda: self._shared(name, SQUEEZENET, {"bits": 8}),
            SQUEEZENET_6: lambda: self._shared(name, SQUEEZENET, {"bits": 6}),
            SQUEEZENET_RD: self._rate_distortion,
        }
        make_folder(self._files)
        return made[name]()

    def _whole(self, spec: NetworkSpec) -> TableNetwork:
        model = self._trained(spec)
        folded = dataclasses.replace(spec, batch_norm=False)
        size = count(build_graph(folded)).weight_bytes
        return _of_model(model, size, "float32 weights and biases")

    def _train(self, spec: NetworkSpec) -> LoadedModel:
        """Train a network, and return the weights that ``run_trial`` would measure."""
        definition, job = self._definition, self._job
        name = ALEXNET if spec == definition.alexnet else SQUEEZENET
        run = RunFolder(self._trials / name)
        self._progress.log(f"{name}: training {spec.name}")
        options = definition.training_of(spec)
        plan = plan_training(definition.source, options, self._progress, job.limits)
        plan.run(run.path, job.fit_options(self._progress))
        on_test = measures_on_test(definition.source, job.limits)
        return load_model(run.best if on_test else run.last)

    def _base(self, name: str) -> LoadedModel:
        is_alexnet = name == ALEXNET
        return self._trained(
            self._definition.alexnet if is_alexnet else self._definition.squeezenet
        )

    def _factorised(self) -> TableNetwork:
        file = self._files / f"{ALEXNET_SVD}.safetensors"
        original = fold_batch_norm(self._base(ALEXNET))
        if not file.is_file():
            max_bytes = count(build_graph(original.record.spec)).weight_bytes // SVD_REDUCTION
            self._progress.log(f"{ALEXNET_SVD}: singular value decompositions")
            module = with_low_rank(original, max_bytes)
            self._retrain(ALEXNET_SVD, original, module, None)
            state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
            write_bytes_atomically(file, save(state))
        module = from_low_rank_state(original, load_file(file))
        size = sum(p.numel() * p.element_size() for p in module.parameters())
        model = dataclasses.replace(original, module=module)
        return _of_model(model, size, "float32 factors, weights and biases")

    def _pruned(self, name: str) -> LoadedModel:
        file = self._files / f"{name}-pruned.safetensors"
        if not file.is_file():
            model = self._base(name)
            folded = fold_batch_norm(model)
            graph = build_graph(folded.record.spec)
            density = ALEXNET_DENSITY if name == ALEXNET else SQUEEZENET_DENSITY
            densities = layer_densities(folded.module, graph, density, {})
            masks = magnitude_masks(folded.module, graph, densities)

            def retrain(module: nn.Module, hold: Hold) -> None:
                self._retrain(f"{name}-pruned", folded, module, hold)

            student = pruned(model, graph, masks, retrain)
            save_safetensors(file, student.record, student.module.state_dict())
        return load_model(file)

    def _retrain(
        self, name: str, teacher: LoadedModel, module: nn.Module, hold: Hold | None
    ) -> None:
        """Retrain a module, by what ``compress`` does after pruning."""
        definition, train = self._definition, self._definition.data.train
        recipe = stage_recipe(
            definition.recipe, len(train), DeepCompressionSettings(), "prune",
            definition.retrain_epochs,
        )  # fmt: skip
        given = {"stage": name, "recipe": recipe}
        make_folder(self._work)
        folder = open_stage(self._work / name, given, self._progress)
        self._progress.log(f"{name}: retraining for {recipe.epochs} epochs")
        training = Retraining(
            teacher=teacher,
            images=train,
            labelled=train,
            seed=0,
            options=self._job.fit_options(self._progress),
        )
        training.run(module, recipe, folder, hold)

    def _alexnet_bits(self) -> dict[str, object]:
        layers = {
            conv.name: FC_BITS for conv in fully_connected(build_graph(self._definition.alexnet))
        }
        return {"bits": CONV_BITS, "layer_bits": layers}

    def _shared(self, name: str, base: str, bits: dict[str, object]) -> TableNetwork:
        """Share the weights of the pruned network; its zeros stay."""
        epochs = self._definition.retrain_epochs
        settings = DeepCompressionSettings(
            density=1.0,
            prune_epochs=0,
            share_epochs=None if epochs is None else math.ceil(SHARE_PART * epochs),
            **bits,  # type: ignore[arg-type]
        )
        file = self._compressed(name, lambda: self._pruned(base), settings)
        return _of_model(load_model(file), file.stat().st_size, "the file")

    def _rate_distortion(self) -> TableNetwork:
        settings = RateDistortionSettings(effort=self._definition.effort)
        file = self._compressed(SQUEEZENET_RD, lambda: self._base(SQUEEZENET), settings)
        classifier = Classifier(file.read_bytes(), threads=torch.get_num_threads())
        return TableNetwork(
            network=classifier.logits,
            record=load_model(file).record,
            bytes=file.stat().st_size,
            size_of="the file, run in integers",
        )

    def _compressed(self, name: str, model: Callable[[], LoadedModel], settings: Settings) -> Path:
        file = self._files / f"{name}.sqz"
        if not file.is_file():
            data = self._definition.data
            loaded = model()
            self._progress.log(f"{name}: compressing")
            compress_model(
                loaded,
                CompressionImages(
                    retrain=data.train, labelled=True, measure=data.val, measure_labelled=True
                ),
                file,
                settings,
                self._definition.recipe,
                options=self._job.fit_options(self._progress),
            )
        return file


def _of_model(model: LoadedModel, size: int, size_of: str) -> TableNetwork:
    return TableNetwork(
        network=from_pixels(model.logits, model.record.preprocessing),
        record=model.record,
        bytes=size,
        size_of=size_of,
    )


def _sparse(model: LoadedModel) -> TableNetwork:
    """A pruned network, sized as Deep Compression stores one."""
    state, graph = model.module.state_dict(), build_graph(model.record.spec)
    kept = [(state[f"{conv.key}.weight"] != 0).numpy() for conv in graph.convs]
    num_biases = sum(conv.out_channels for conv in graph.convs)
    size = pruned_row(kept, num_biases, None).bytes
    return _of_model(model, size, "float32 weights with gaps of 4 bits, biases")
