"""What a user asks of table 2, and every choice that follows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from squeezenet.arch.network_file import find_network
from squeezenet.arch.presets import adapted
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import AlexNetSpec, NetworkSpec, SqueezeNetSpec
from squeezenet.data.digits import DIGITS
from squeezenet.data.sources import TrainingData
from squeezenet.errors import UsageError
from squeezenet.explore.definition import command_line, data_settings, given, recipe_shown
from squeezenet.explore.trial import measured_on, open_data
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.progress import Progress
from squeezenet.report.compression_table.results import CompressionTable, TableRow
from squeezenet.train.plan import TrainOptions, recipe_for
from squeezenet.train.recipe import Recipe
from squeezenet.train.start import MAX_SMALL_IMAGE, largest_short_side

Effort = Literal["low", "medium", "high"]
ALEXNET_RATE = 0.5
"""AlexNet's learning rate, in rates of the recipe: at the whole, its loss has spikes
(docs/experiments/cifar10.md)."""


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
            recipe=self.recipe.name,
            batch_size=self.recipe.batch_size,
            learning_rate=rate,
        )

    def results(self, name: str, rows: tuple[TableRow, ...]) -> CompressionTable:
        """Return the table for its report."""
        return CompressionTable(
            name=name,
            data=self.measured_on,
            settings=(
                *recipe_shown(self.source, self.data, self.training, self.recipe),
                ("SqueezeNet", self.squeezenet.name),
                ("AlexNet", self.alexnet.name),
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
    data = open_data(source, options.training, progress, limits)
    small = source == DIGITS or _is_small(data)
    arch = options.arch or _default_squeezenet(source, small=small)
    squeezenet = _for_data(arch, source, data, options.training)
    if not isinstance(squeezenet, SqueezeNetSpec):
        raise UsageError(f"--arch {arch}: is no SqueezeNet")
    baseline = options.baseline or ("alexnet_cifar" if small else "alexnet")
    alexnet = _for_data(baseline, source, data, options.training)
    if not isinstance(alexnet, AlexNetSpec):
        raise UsageError(f"--baseline {baseline}: is no AlexNet")
    return CompressionTableDefinition(
        source=source,
        data=data,
        alexnet=alexnet,
        squeezenet=squeezenet,
        training=options.training,
        recipe=recipe_for(source, data, options.training, squeezenet.input_size),
        retrain_epochs=options.retrain_epochs,
        effort=options.effort,
        settings={
            "table": "table2",
            "networks": [to_plain(alexnet), to_plain(squeezenet)],
            "retraining": options.retrain_epochs,
            "effort": options.effort,
            "training": given(options.training),
            "data": data_settings(data),
        },
        measured_on=measured_on(source, data, limits),
        command=command_line("table2", source, out, given(options), given(options.training)),
    )


def _is_small(data: TrainingData) -> bool:
    side = largest_short_side(data.train)
    return side is not None and side <= MAX_SMALL_IMAGE


def _default_squeezenet(source: str, *, small: bool) -> str:
    if source == DIGITS:
        return "squeezenet_tiny"
    return "squeezenet_cifar" if small else "squeezenet1_0"


def _for_data(arch: str, source: str, data: TrainingData, training: TrainOptions) -> NetworkSpec:
    """A network for the data's classes, and for its images where these are small."""
    spec = find_network(arch)
    size = training.input_size
    if size is None and (source == DIGITS or _is_small(data)):
        size = largest_short_side(data.train)
    return adapted(
        spec,
        num_classes=len(data.class_names),
        input_channels=1 if source == DIGITS else 3,
        input_size=None if size is None else (size, size),
    )
