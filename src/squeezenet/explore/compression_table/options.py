"""What a user asks of table 2, and every choice that follows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from squeezenet.arch.counts import count
from squeezenet.arch.graph import build_graph
from squeezenet.arch.network_file import NETWORK_SUFFIX, find_network
from squeezenet.arch.presets import adapted
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import AlexNetSpec, NetworkSpec, SqueezeNetSpec
from squeezenet.compress.low_rank import require_possible
from squeezenet.compress.rate_distortion.settings import EFFORT_PRESETS, Effort
from squeezenet.data.digits import DIGITS
from squeezenet.data.sources import TrainingData
from squeezenet.errors import SpecError, TooLargeError, UsageError
from squeezenet.explore.definition import (
    command_line,
    data_settings,
    given,
    recipe_shown,
    training_settings,
)
from squeezenet.explore.trial import measured_on, measured_settings, open_data
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.progress import Progress
from squeezenet.report.compression_table.results import CompressionTable, TableRow
from squeezenet.train.plan import TrainOptions, recipe_for
from squeezenet.train.recipe import Recipe
from squeezenet.train.start import MAX_SMALL_IMAGE, largest_short_side

ALEXNET_RATE = 0.5
"""AlexNet's learning rate, in rates of the recipe: at the whole, its loss has spikes
(docs/experiments/cifar10.md)."""
SVD_REDUCTION = 5
"""How many times smaller the factorised AlexNet is: 240 and 48 MB in the paper."""
ALEXNET_DENSITY, SQUEEZENET_DENSITY = 0.11, 0.33
"""Shares of weights that pruning keeps: AlexNet's in arXiv 1510.00149, and SqueezeNet's in the
authors' released file."""


@dataclass(frozen=True, kw_only=True)
class CompressionTableOptions:
    """The options of the table; None leaves the choice to the data.

    ``arch`` and ``baseline``: SqueezeNet and AlexNet, a preset or a network's JSON file.
    ``retrain_epochs``: of every retraining after factorising and pruning; weights that are shared
    get two fifths of it. None is what ``compress`` does. ``effort``: of method ``rd``.

    Raises:
        UsageError: a value is out of range.
    """

    arch: str | None = None
    baseline: str | None = None
    retrain_epochs: int | None = None
    effort: Effort = "medium"
    training: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if self.retrain_epochs is not None and self.retrain_epochs < 1:
            raise UsageError(f"--retrain-epochs {self.retrain_epochs}, expected at least 1")
        if self.effort not in EFFORT_PRESETS:
            raise UsageError(f"--effort {self.effort}, expected one of {', '.join(EFFORT_PRESETS)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressionTableDefinition:
    """The table with every choice made.

    ``training`` is what the user said of the recipe, ``recipe`` what follows from it. ``settings``
    are what the folder must have in common with the one that it goes on with.
    """

    source: str
    data: TrainingData
    alexnet: AlexNetSpec
    squeezenet: SqueezeNetSpec
    training: TrainOptions
    recipe: Recipe
    retrain_epochs: int | None
    effort: Effort
    settings: dict[str, Any]
    measured_on: str
    command: str

    def training_of(self, spec: NetworkSpec) -> TrainOptions:
        """Return the options of a network's training."""
        rate = self.recipe.learning_rate
        if isinstance(spec, AlexNetSpec):
            rate *= ALEXNET_RATE
        return dataclasses.replace(
            self.training,
            arch=spec,
            input_size=spec.input_size[0],
            recipe=self.training.recipe or self.recipe.name,
            batch_size=self.recipe.batch_size,
            learning_rate=rate,
        )

    def _shown(self, spec: NetworkSpec, batch_norm: bool) -> str:
        rate = self.training_of(spec).learning_rate
        norm = "with" if batch_norm else "without"
        return (
            f"{spec.name}, {spec.input_size[0]} pixels, peak learning rate {rate:g}, {norm} batch "
            "normalisation"
        )

    def results(self, name: str, rows: tuple[TableRow, ...]) -> CompressionTable:
        """Return the table for its report."""
        retraining = "as compress does"
        if self.retrain_epochs is not None:
            retraining = f"{self.retrain_epochs} epochs"
        return CompressionTable(
            name=name,
            data=self.measured_on,
            settings=(
                *(
                    pair
                    for pair in recipe_shown(self.source, self.data, self.training, self.recipe)
                    if pair[0] not in ("peak learning rate", "batch normalisation")
                ),
                ("AlexNet", self._shown(self.alexnet, self.alexnet.batch_norm)),
                ("SqueezeNet", self._shown(self.squeezenet, self.recipe.batch_norm)),
                ("SVD", f"{SVD_REDUCTION} times smaller"),
                ("weights kept of AlexNet", f"{ALEXNET_DENSITY:.0%}"),
                ("weights kept of SqueezeNet", f"{SQUEEZENET_DENSITY:.0%}"),
                ("retraining", retraining),
                ("effort of rd", self.effort),
            ),
            command=self.command,
            rows=rows,
        )


def define_compression_table(
    source: str,
    out: str,
    options: CompressionTableOptions,
    progress: Progress,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> CompressionTableDefinition:
    """Open the data, and make every choice that ``options`` leave open.

    Raises:
        UsageError, UnknownNameError, SpecError: the options do not make networks for the data.
        DataError: see ``open_training_data``.
    """
    training = options.training
    data = open_data(source, training, progress, limits)
    side = largest_short_side(data.train)
    size = training.input_size
    if size is None and side is not None and side <= MAX_SMALL_IMAGE:
        size = side
    small = size is not None and size <= MAX_SMALL_IMAGE
    if side is not None and side > MAX_SMALL_IMAGE:
        progress.log("both networks are trained from scratch, which takes many photographs")
    arch = options.arch or _default_squeezenet(source, small=small)
    squeezenet = _for_data(arch, source, data, size)
    if not isinstance(squeezenet, SqueezeNetSpec):
        raise UsageError(f"--arch {arch}: is no SqueezeNet")
    recipe = recipe_for(source, data, training, squeezenet.input_size)
    baseline = options.baseline or ("alexnet_cifar" if small else "alexnet")
    alexnet = _for_data(baseline, source, data, size)
    if not isinstance(alexnet, AlexNetSpec):
        raise UsageError(f"--baseline {baseline}: is no AlexNet")
    if options.baseline is None:
        alexnet = _as_a_baseline(alexnet, batch_norm=recipe.batch_norm)
    for spec in (alexnet, squeezenet):
        _require_square(spec)
    require_possible(build_graph(alexnet), max_svd_bytes(alexnet))
    build_graph(squeezenet)
    return CompressionTableDefinition(
        source=source,
        data=data,
        alexnet=alexnet,
        squeezenet=squeezenet,
        training=training,
        recipe=recipe,
        retrain_epochs=options.retrain_epochs,
        effort=options.effort,
        settings={
            "table": "table2",
            "networks": [to_plain(alexnet), to_plain(squeezenet)],
            "retraining": options.retrain_epochs,
            "effort": options.effort,
            "training": training_settings(training, recipe),
            "data": data_settings(data),
            "measured": measured_settings(source, data, limits),
        },
        measured_on=measured_on(source, data, limits),
        command=command_line("table2", source, out, given(options), given(training)),
    )


def max_svd_bytes(alexnet: AlexNetSpec) -> int:
    """Return the size of AlexNet by SVD, in bytes of float32."""
    whole = dataclasses.replace(alexnet, batch_norm=False)
    return count(build_graph(whole)).weight_bytes // SVD_REDUCTION


def _default_squeezenet(source: str, *, small: bool) -> str:
    if source == DIGITS:
        return "squeezenet_tiny"
    return "squeezenet_cifar" if small else "squeezenet1_0"


def _for_data(arch: str, source: str, data: TrainingData, size: int | None) -> NetworkSpec:
    """A network for the data's classes; one that has a name also for its images."""
    spec = find_network(arch)
    if arch.endswith(NETWORK_SUFFIX):
        return adapted(spec, num_classes=len(data.class_names))
    return adapted(
        spec,
        num_classes=len(data.class_names),
        input_channels=1 if source == DIGITS else 3,
        input_size=None if size is None else (size, size),
    )


def _as_a_baseline(spec: AlexNetSpec, *, batch_norm: bool) -> AlexNetSpec:
    """AlexNet with the aids of our networks, and no more pools than its input has room for.

    Batch normalisation replaces LRN, as in ``alexnet_cifar``. Of the pools, the earliest go.
    """
    if batch_norm:
        convs = tuple(dataclasses.replace(conv, lrn=False) for conv in spec.convs)
        spec = dataclasses.replace(spec, convs=convs, batch_norm=True)
    while spec.pools:
        try:
            build_graph(spec)
        except TooLargeError:
            break
        except SpecError:
            spec = dataclasses.replace(spec, pools=spec.pools[1:])
        else:
            break
    return spec


def _require_square(spec: NetworkSpec) -> None:
    if spec.input_size[0] != spec.input_size[1]:
        height, width = spec.input_size
        raise UsageError(f"{spec.name}: its input is {height}x{width}, expected a square one")
