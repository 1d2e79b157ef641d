"""The network at step 0 of a run: from scratch, or a model to fine-tune."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from squeezenet.arch.class_labels import ClassLabels
from squeezenet.arch.graph import Conv, build_graph
from squeezenet.arch.network_file import find_network
from squeezenet.arch.preprocessing import (
    caffe_preprocessing,
    default_preprocessing,
    with_crop,
)
from squeezenet.arch.presets import adapted
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import NetworkSpec, SqueezeNetSpec
from squeezenet.data.digits import DIGITS
from squeezenet.data.sources import TrainingData
from squeezenet.errors import ImageError, WeightsError
from squeezenet.images.sets import ImageSet
from squeezenet.model.init import initialise
from squeezenet.model.load import load_model
from squeezenet.model.loaded import LoadedModel, needs_new_head, with_new_head
from squeezenet.model.network import build_module
from squeezenet.progress import Progress
from squeezenet.train.recipe import Recipe

SMALL_INPUT = 32
"""Input side in pixels of the networks for small images (``squeezenet_cifar``)."""
MAX_SMALL_IMAGE = 64
"""Images of at most so many pixels on their short side are no photographs."""
PRETRAINED = "squeezenet1_1"
"""Published weights to fine-tune by default: v1.1 has the accuracy of v1.0 at 2.4 times fewer
operations."""
FEW_PHOTOGRAPHS = 20_000
FEW_PER_CLASS = 100
"""Below either, photographs are too few to train from scratch. On 86, 347 and 531 photographs
fine-tuning had 92.2, 82.6 and 64.1% top-1, training from scratch for three times as long 68.6, 37.4
and 22.5% (docs/experiments/training.md). Where the two meet was not measured; these limits are a
choice. Small images are trained from scratch all the same, as their networks are for small devices.
On 40 per class of CIFAR-10, that had 39.2% of 1,000 test images, fine-tuning at 224 pixels
60.4%."""
_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class NetworkChoice:
    """A network to train from scratch; None means the network's or the recipe's own choice.

    ``arch`` is the network, its name or its JSON file. ``input_size`` is the side of a square input
    in pixels.
    """

    arch: str | NetworkSpec
    input_size: int | None = None
    input_channels: int | None = None
    batch_norm: bool | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input in pixels."""
        if self.input_size is None:
            return find_network(self.arch).input_size
        return (self.input_size, self.input_size)


@dataclass(frozen=True, kw_only=True)
class DefaultStart:
    """What to train where nobody says: ``arch`` from scratch, or the ``published`` weights.

    ``reason`` is for the user.
    """

    arch: str | None = None
    input_size: int | None = None
    published: str | None = None
    reason: str


def default_start(source: str, data: TrainingData) -> DefaultStart:
    """Choose a network for data: small images from scratch, few photographs by fine-tuning."""
    if source == DIGITS:
        return DefaultStart(
            arch="squeezenet_tiny", reason="training squeezenet_tiny from scratch, made for digits"
        )
    num_images = len(data.train) + len(data.val)
    per_class = num_images / len(data.class_names)
    side = largest_short_side(data.train)
    if side is not None and side <= MAX_SMALL_IMAGE:
        reason = f"images of {side} pixels are small, so training squeezenet_cifar from scratch"
        if per_class < FEW_PER_CLASS:
            reason += (
                f"; on so few, --from {PRETRAINED} is more accurate, with an input of 224 pixels"
            )
        size = side if side > SMALL_INPUT else None
        return DefaultStart(arch="squeezenet_cifar", input_size=size, reason=reason)
    if num_images < FEW_PHOTOGRAPHS or per_class < FEW_PER_CLASS:
        few = f"{num_images:,} photographs"
        if num_images >= FEW_PHOTOGRAPHS:
            few += f" of {len(data.class_names):,} classes"
        return DefaultStart(
            published=PRETRAINED, reason=f"{few} are few, so fine-tuning {PRETRAINED} (ImageNet)"
        )
    return DefaultStart(
        arch="squeezenet1_1",
        reason=f"{num_images:,} photographs are many, so training squeezenet1_1 from scratch",
    )


def suggest_input_size(arch: str | NetworkSpec, images: ImageSet) -> int | None:
    """Return the images' own size if they have at most 32 pixels and the network expects more.

    Otherwise None, for the network's own input size.
    """
    if max(find_network(arch).input_size) <= SMALL_INPUT:
        return None
    side = largest_short_side(images)
    return side if side is not None and side <= SMALL_INPUT else None


def largest_short_side(images: ImageSet) -> int | None:
    """Return the largest short side of a few images across the set, in pixels.

    Images that cannot be read are skipped; None if none can be read.
    """
    sides: list[int] = []
    for i in images.few(_SAMPLES):
        try:
            sides.append(min(images.pixels(i).shape[:2]))
        except ImageError:
            continue
    return max(sides, default=None)


def open_pretrained(
    path: Path,
    arch: str | None,
    *,
    labels: ClassLabels | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Open the model to fine-tune; ``arch`` is needed for weights of unclear shapes only.

    Raises:
        WeightsError: its architecture is not ``arch``.
        UsageError, FormatError: see ``load_model``.
    """
    model = load_model(path, arch, labels=labels, progress=progress)
    if arch is not None and model.record.spec.name != arch:
        raise WeightsError(
            f"{path}: is {model.record.spec.name}, --arch says {arch}; leave --arch out"
        )
    return model


def start_from(
    pretrained: LoadedModel, class_names: tuple[str, ...], *, new_head: bool, seed: int
) -> LoadedModel:
    """Return the model with the data's classes, and the pretrained one in its provenance.

    Its last layer is new if ``new_head``; else its classes must be ``class_names``.
    """
    assert new_head or not needs_new_head(pretrained, class_names)
    model = with_new_head(pretrained, class_names, seed) if new_head else pretrained
    source = {"method": "fine-tuned", "source": pretrained.record.provenance, "seed": seed}
    return LoadedModel(
        record=dataclasses.replace(model.record, provenance=source), module=model.module
    )


def start_from_layers(
    pretrained: LoadedModel, spec: NetworkSpec, class_names: tuple[str, ...], seed: int
) -> tuple[LoadedModel, int]:
    """Return a network of ``spec`` that begins with the pretrained model's layers.

    Layers are taken in order for as long as both networks are the same, but for the last layer; the
    others are initialised randomly. Returns the number of layers taken, too.

    Raises:
        WeightsError: not even the first layer is the same.
        SpecError: ``spec`` makes no network for the classes.
    """
    record = pretrained.record
    spec = adapted(spec, num_classes=len(class_names))
    theirs = pretrained.module.state_dict()
    taken: list[Conv] = []
    graph = build_graph(spec)
    for ours, other in zip(graph.operations, build_graph(record.spec).operations, strict=False):
        if ours != other or ours == graph.convs[-1]:
            break
        if isinstance(ours, Conv):
            taken.append(ours)
    if not taken:
        raise WeightsError(
            f"{spec.name}: its first layer is not that of {record.spec.name} (filters, stride, "
            "padding, batch normalisation, input channels), so there is nothing to start from; "
            "train it from scratch, without --from"
        )
    module = build_module(spec)
    initialise(module, spec, "he", seed)
    keys = tuple(f"{k}." for conv in taken for k in (conv.key, conv.norm_key) if k is not None)
    module.load_state_dict({k: v for k, v in theirs.items() if k.startswith(keys)}, strict=False)
    new_record = ModelRecord(
        spec=spec,
        preprocessing=with_crop(record.preprocessing, spec.input_size),
        class_names=class_names,
        provenance={
            "method": "fine-tuned", "source": record.provenance, "layers": len(taken),
            "seed": seed,
        },
    )  # fmt: skip
    return LoadedModel(record=new_record, module=module), len(taken)


def new_model(
    choice: NetworkChoice, recipe: Recipe, class_names: tuple[str, ...], seed: int
) -> LoadedModel:
    """Build a network for the classes and draw its initial weights.

    Raises:
        UnknownNameError, SpecError: the choice is not a valid network.
    """
    network = find_network(choice.arch)
    batch_norm = choice.batch_norm
    if batch_norm is None and isinstance(network, SqueezeNetSpec):
        batch_norm = recipe.batch_norm
    spec = adapted(
        network,
        num_classes=len(class_names),
        input_channels=choice.input_channels,
        input_size=choice.size if choice.input_size else None,
        batch_norm=batch_norm,
    )
    preprocessing = None
    if recipe.caffe and isinstance(spec, SqueezeNetSpec):
        # v1.1 was released later, with an unpadded conv10.
        padding = int(spec.name.startswith("squeezenet1_0"))
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
