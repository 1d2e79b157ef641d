"""What a user asks of a search, and the study that follows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import MAX_INPUT_SIZE, SqueezeNetSpec
from squeezenet.compress.rate_distortion.settings import (
    MAX_DIVERGENCE,
    MIN_DIVERGENCE,
    default_divergence,
)
from squeezenet.data.digits import DIGITS
from squeezenet.data.sources import TrainingData
from squeezenet.errors import UsageError
from squeezenet.explore.budgets import Budgets
from squeezenet.explore.costs import measure_costs
from squeezenet.explore.definition import (
    StudyDefinition,
    command_line,
    data_settings,
    given,
    training_settings,
)
from squeezenet.explore.search import Search, predicted_bytes, search_settings
from squeezenet.explore.space import Space, TrunkSpace
from squeezenet.explore.trial import open_data
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import Progress
from squeezenet.train.plan import TrainOptions, recipe_for, start_path
from squeezenet.train.start import (
    MAX_SMALL_IMAGE,
    PRETRAINED,
    largest_short_side,
    open_pretrained,
)

MAX_TRIALS = 100_000
_INPUT_SIZES = (96, 128, 160, 224)
"""Input sides to choose from for photographs."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The options of a search.

    ``max_...`` are budgets. ``divergence`` is that of ``compress``, None for its default.
    ``input_size``: of all networks, in pixels. With ``training.start``, networks begin as that
    model does.

    Raises:
        UsageError: a value is out of range.
    """

    max_file_bytes: int | None = None
    max_macs: int | None = None
    max_arena_bytes: int | None = None
    max_latency_ms: float | None = None
    trials: int = 50
    divergence: float | None = None
    input_size: int | None = None
    training: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= MAX_TRIALS:
            raise UsageError(f"--trials {self.trials}, expected 1 to {MAX_TRIALS}")
        size = self.input_size
        if size is not None and not 1 <= size <= MAX_INPUT_SIZE:
            raise UsageError(f"--input-size {size}, expected 1 to {MAX_INPUT_SIZE}")
        if self.divergence is not None and not MIN_DIVERGENCE <= self.divergence <= MAX_DIVERGENCE:
            raise UsageError(
                f"--divergence {self.divergence:g}, expected {MIN_DIVERGENCE:g} to "
                f"{MAX_DIVERGENCE:g}"
            )

    @property
    def budgets(self) -> Budgets:
        """The budgets.

        Raises:
            UsageError: one is not above 0.
        """
        return Budgets(
            file_bytes=self.max_file_bytes,
            macs=self.max_macs,
            arena_bytes=self.max_arena_bytes,
            latency_ms=self.max_latency_ms,
        )


def define_search(
    source: str,
    out: str,
    options: SearchOptions,
    progress: Progress,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> StudyDefinition:
    """Open the data, and make every choice that ``options`` leave open.

    Raises:
        UsageError: a budget is below what the smallest network needs.
        DataError: see ``open_training_data``.
        FetchError, WeightsError, FormatError: the model to start from cannot be used.
    """
    training, budgets = options.training, options.budgets
    data = open_data(source, training, progress, limits)
    loaded = None if training.start is None else _pretrained(training.start, progress)
    start = None if loaded is None else loaded.record
    space = _space(source, options, data, start, progress)
    smallest = measure_costs(space.smallest(), latency=budgets.latency_ms is not None)
    budgets.require_possible(smallest, predicted_bytes(smallest, ()))
    divergence = options.divergence
    if divergence is None:
        divergence = default_divergence(len(data.train))
    search = Search(space=space, budgets=budgets, num_trials=options.trials, divergence=divergence)
    size = max(space.input_sizes)
    recipe = recipe_for(source, data, training, (size, size), start)
    return StudyDefinition(
        title="search",
        axis="network",
        source=source,
        data=data,
        training=training,
        recipe=recipe,
        settings={
            "search": search_settings(search),
            # The weights themselves, wherever they are.
            "start": loaded.source.sha256 if loaded is not None and loaded.source else None,
            "training": training_settings(dataclasses.replace(training, start=None), recipe),
            "data": data_settings(data),
        },
        measured_on=f"{len(data.val):,} images that are held out from training",
        command=command_line("search", source, out, given(options), given(training)),
        search=search,
        shown=(
            *(
                (name.replace("_", " "), f"at most {limit:,}")
                for name, limit in budgets.limits().items()
            ),
            ("divergence of compress, nats", f"{divergence:g}"),
        ),
    )


def _pretrained(start: Path | str, progress: Progress) -> LoadedModel:
    """The model to start from.

    Raises:
        UsageError: it is no SqueezeNet.
    """
    model = open_pretrained(start_path(start, progress), None, progress=progress)
    if not isinstance(model.record.spec, SqueezeNetSpec):
        raise UsageError(f"--from {start}: is no SqueezeNet; a search is of that family")
    return model


def _space(
    source: str,
    options: SearchOptions,
    data: TrainingData,
    start: ModelRecord | None,
    progress: Progress,
) -> Space | TrunkSpace:
    """Networks for the data: small images at their own size, photographs at several."""
    sizes: tuple[int, ...] = _INPUT_SIZES
    side = largest_short_side(data.train)
    are_photographs = side is not None and side > MAX_SMALL_IMAGE
    if options.input_size is not None:
        sizes = (options.input_size,)
    elif start is not None and max(start.spec.input_size) <= MAX_SMALL_IMAGE:
        sizes = (max(start.spec.input_size),)
    elif side is not None and not are_photographs and start is None:
        sizes = (side,)
    if start is not None:
        assert isinstance(start.spec, SqueezeNetSpec)
        return TrunkSpace(
            pretrained=start.spec, input_sizes=sizes, num_classes=len(data.class_names)
        )
    if are_photographs:
        progress.log(
            f"no --from: networks are trained from scratch; --from {PRETRAINED} starts them from "
            "ImageNet's weights"
        )
    return Space(
        input_sizes=sizes,
        input_channels=1 if source == DIGITS else 3,
        num_classes=len(data.class_names),
    )
