"""What ``squeezenet train`` does: a network, data and a recipe to a finished run folder."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from squeezenet.arch.graph import build_graph
from squeezenet.arch.preprocessing import caffe_preprocessing, default_preprocessing
from squeezenet.arch.presets import preset
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import from_plain, to_plain
from squeezenet.arch.spec import NetworkSpec, SqueezeNetSpec
from squeezenet.data.augment import Augmentation
from squeezenet.data.digits import DIGITS
from squeezenet.data.sources import VAL_FRACTION, TrainingData
from squeezenet.data.split import class_weights
from squeezenet.errors import ImageError, SpecError, WeightsError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.evaluation.predict import evaluate
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels
from squeezenet.images.sets import ImageSet
from squeezenet.model.init import initialise
from squeezenet.model.load import load_model
from squeezenet.model.loaded import LoadedModel, with_classes
from squeezenet.model.network import build_module
from squeezenet.model.safetensors_file import save_safetensors
from squeezenet.train.checkpoint import checkpoint_paths
from squeezenet.train.fit import Fit, FitOptions, Loss, Validate
from squeezenet.train.head import fit_head
from squeezenet.train.recipe import Recipe, recipe_named
from squeezenet.train.run_folder import RunFolder

_SMALL = 32


@dataclass(frozen=True, kw_only=True)
class NetworkChoice:
    """Which network to train from scratch; what is None is left to the preset and the recipe."""

    arch: str
    input_size: int | None = None
    input_channels: int | None = None
    batch_norm: bool | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input in pixels."""
        if self.input_size is None:
            return preset(self.arch).input_size
        return (self.input_size, self.input_size)


def suggest_input_size(arch: str, images: ImageSet) -> int | None:
    """Return the images' own size, where a network made for large ones meets 32 pixels or fewer.

    Looks at a few images across the set; ones that cannot be read are passed over here.
    """
    if max(preset(arch).input_size) <= _SMALL:
        return None
    sides: list[int] = []
    for i in range(0, len(images), max(1, len(images) // 16)):
        try:
            sides.append(min(images.pixels(i).shape[:2]))
        except ImageError:
            continue
    if not sides or max(sides) > _SMALL:
        return None
    return max(sides)


def start_from(
    path: Path, arch: str | None, class_names: tuple[str, ...], *, new_head: bool, seed: int
) -> LoadedModel:
    """Open the model to fine-tune, with the data's classes.

    Raises:
        ClassCountError: it has other classes, and ``new_head`` is False.
        WeightsError: it is not the architecture that was asked for.
    """
    model = load_model(path, arch)
    if arch is not None and model.record.spec.name != arch:
        raise WeightsError(
            f"{path}: is {model.record.spec.name}, --arch says {arch}; leave --arch out"
        )
    source = {"method": "fine-tuned", "source": model.record.provenance, "seed": seed}
    model = with_classes(model, class_names, new_head=new_head, seed=seed)
    return LoadedModel(
        record=dataclasses.replace(model.record, provenance=source), module=model.module
    )


def default_recipe(
    source: str, *, input_size: tuple[int, int], start: ModelRecord | None = None
) -> Recipe:
    """The recipe for data of which nothing is said: by its kind and the network's input.

    A model that we trained, ``start``, is fine-tuned with the augmentation of its training, since
    what must not be flipped then must not be flipped now.
    """
    if start is not None:
        recipe = recipe_named("finetune")
        known = recorded_augmentation(start)
        return recipe if known is None else dataclasses.replace(recipe, augmentation=known)
    if source == DIGITS:
        return recipe_named("digits")
    return recipe_named("small" if max(input_size) <= 64 else "default")


def recorded_augmentation(record: ModelRecord) -> Augmentation | None:
    """How the images of a model's training were changed, if we trained it."""
    provenance: Any = record.provenance
    while isinstance(provenance, dict):
        if "augmentation" in provenance:
            try:
                return from_plain(Augmentation, provenance["augmentation"], "augmentation")
            except SpecError:
                return None
        provenance = provenance.get("source")
    return None


def new_model(
    choice: NetworkChoice, recipe: Recipe, class_names: tuple[str, ...], seed: int
) -> LoadedModel:
    """Build a network for the classes and draw its first weights.

    Raises:
        UnknownNameError, SpecError: the choice makes no network.
    """
    batch_norm = choice.batch_norm
    if batch_norm is None and isinstance(preset(choice.arch), SqueezeNetSpec):
        batch_norm = recipe.batch_norm
    spec = preset(
        choice.arch,
        num_classes=len(class_names),
        input_channels=choice.input_channels,
        input_size=choice.size if choice.input_size else None,
        batch_norm=batch_norm,
    )
    preprocessing = None
    if recipe.caffe and isinstance(spec, SqueezeNetSpec):
        # v1.1 was released later, with an unpadded conv10.
        padding = int(choice.arch.startswith("squeezenet1_0"))
        head = dataclasses.replace(spec.head, last_relu=True, padding=padding)
        spec = dataclasses.replace(spec, head=head)
        if choice.input_size is None and spec.input_size == (224, 224):
            spec = dataclasses.replace(spec, input_size=(227, 227))
            preprocessing = caffe_preprocessing() if spec.input_channels == 3 else None
    record = ModelRecord(
        spec=spec,
        preprocessing=preprocessing or default_preprocessing(spec),
        class_names=class_names,
        provenance={"method": "trained", "seed": seed},
    )
    module = build_module(spec)
    initialise(module, spec, recipe.init, seed)
    return LoadedModel(record=record, module=module)


def train_run(
    model: LoadedModel,
    data: TrainingData,
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    val_fraction: float = VAL_FRACTION,
    new_head: bool = False,
    options: FitOptions | None = None,
) -> dict[str, Any]:
    """Train ``model`` on ``data`` into ``folder``; return the result that ``result.json`` holds.

    ``val_fraction`` is what ``data`` was split by; it is kept in the record. ``new_head``: begin
    with the last layer that logistic regression finds, see ``head``.

    Resumes what the folder holds; a finished run is not run again.

    Raises:
        CheckpointError: the folder holds a run with other settings, or cannot be written.
        InterruptedRunError, DataError, ImageError: see ``Fit.run``.
    """
    options = options or FitOptions()
    recipe = _within_reach(recipe, model.record.spec)
    # What compression and fine-tuning need to treat the images alike.
    provenance = model.record.provenance | {
        "recipe": recipe.name,
        "augmentation": to_plain(recipe.augmentation),
        "val_fraction": val_fraction,
    }
    record = dataclasses.replace(model.record, provenance=provenance)
    assert data.class_names in (model.record.class_names, model.record.class_ids)
    run = RunFolder(folder)
    run.open(
        {
            "architecture": model.record.spec.name,
            "spec": model.record.spec,
            "preprocessing": model.record.preprocessing,
            "start": model.record.provenance,
            "recipe": recipe,
            "data": data.fingerprint,
            "seed": seed,
        }
    )
    finished = run.read_result()
    if finished is not None:
        if options.progress is not None:
            options.progress.log(f"{folder}: this run is finished already")
        return finished
    if new_head and not checkpoint_paths(run.checkpoints):
        batches = EvalBatches(
            data.train, model.record.preprocessing, workers=options.workers, bad=options.bad
        )
        fit_head(model, batches, balance=recipe.balance, progress=options.progress)
    job = Fit(
        module=model.module,
        recipe=recipe,
        preprocessing=model.record.preprocessing,
        images=data.train,
        loss=cross_entropy(recipe, data.train),
        validate=validator(model.record, data, options),
        save_weights=lambda path, module: save_safetensors(path, record, module.state_dict()),
        folder=run,
        seed=seed,
        options=options,
    )
    fitted = job.run()
    result = {
        "arch": model.record.spec.name,
        "recipe": recipe.name,
        "seed": seed,
        **to_plain(fitted),
        "train_images": len(data.train),
        "val_images": len(data.val),
        "classes": len(data.class_names),
    }
    run.write_result(result)
    return result


def _within_reach(recipe: Recipe, spec: NetworkSpec) -> Recipe:
    """The recipe without coarse images, where the network cannot take them."""
    if recipe.coarse_share and isinstance(spec, SqueezeNetSpec):
        height, width = (math.ceil(side * recipe.coarse_scale) for side in spec.input_size)
        try:
            build_graph(dataclasses.replace(spec, input_size=(height, width)))
        except SpecError:
            return dataclasses.replace(recipe, coarse_share=0.0)
        return recipe
    return dataclasses.replace(recipe, coarse_share=0.0)


def cross_entropy(recipe: Recipe, images: ImageSet) -> Loss:
    """The recipe's loss: label smoothing, and class weights where classes differ in size."""
    weights = None
    if recipe.balance:
        weights = torch.from_numpy(class_weights(images.labels, len(images.class_names)))
        if bool((weights == weights[0]).all()):
            weights = None

    def loss(logits_NK: torch.Tensor, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # The mean over images, not over weights: else the pieces of a batch would not add up.
        return functional.cross_entropy(
            logits_NK.float(),
            labels,
            weight=None if weights is None else weights.to(logits_NK.device),
            label_smoothing=recipe.label_smoothing,
            reduction="none",
        ).mean()

    return loss


def validator(record: ModelRecord, data: TrainingData, options: FitOptions) -> Validate:
    """Judge modules on the validation set, prepared exactly as a client would."""
    batches = EvalBatches(
        data.val, record.preprocessing, workers=options.workers, batch_size=128, bad=options.bad
    )

    def validate(module: nn.Module) -> Evaluation:
        model = LoadedModel(record=record, module=module)
        network = from_pixels(model.logits, record.preprocessing)
        return evaluate(network, record, batches)

    return validate
