"""What a user asked for, and the training that follows from it and from the data.

In:  a DATA argument and ``TrainOptions``, in which None means: choose by the data.
Out: a ``TrainingPlan`` with every choice made: the model at step 0, the data, the recipe.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet.arch.class_labels import ClassLabels
from squeezenet.arch.graph import build_graph
from squeezenet.arch.network_file import NETWORK_SUFFIX, find_network
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import MAX_INPUT_SIZE, NetworkSpec
from squeezenet.data.locations import data_name
from squeezenet.data.sources import (
    VAL_FRACTION,
    TrainingData,
    open_training_data,
    with_fewer_images,
)
from squeezenet.errors import FetchError, SpecError, UsageError
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.sets import require_readable_classes
from squeezenet.images.walk import log_findings
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import load_model
from squeezenet.model.loaded import LoadedModel, needs_new_head
from squeezenet.model.published import PUBLISHED, published_file
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.fit import AfterEpoch, FitOptions
from squeezenet.train.recipe import Recipe, default_recipe
from squeezenet.train.recipe_file import find_recipe
from squeezenet.train.run import train_run
from squeezenet.train.start import (
    NetworkChoice,
    default_start,
    new_model,
    open_pretrained,
    start_from,
    start_from_layers,
    suggest_input_size,
)

_RUNS = Path("runs")
_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of a training; None leaves the choice to the data and the recipe.

    ``arch``: a network, the name of a preset, or the path of a network's JSON file. With ``start``,
    a network or its file takes the layers that it has in common with that model.
    ``train_images``: train on so many images, the same ones every time.
    ``start``: the model to fine-tune, as a path or a name of ``PUBLISHED``. A name wins over a file
    of that name; a ``Path`` or ``./NAME`` is always a file or folder.
    ``classes``: the outputs of that model, if its file does not name them.
    ``new_head``: learn the last layer anew even if the model has the data's classes already.
    ``teacher``: a model whose predictions are learned beside the labels, named as ``start`` is.
    Other names are those of ``Recipe``, ``NetworkChoice`` and ``open_training_data``.

    Raises:
        UsageError: a value is out of its range, or two options exclude each other.
    """

    arch: str | NetworkSpec | None = None
    start: Path | str | None = None
    classes: ClassLabels | None = None
    new_head: bool = False
    teacher: Path | str | None = None
    recipe: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    micro_batch: int | None = None
    learning_rate: float | None = None
    input_size: int | None = None
    input_channels: int | None = None
    batch_norm: bool | None = None
    flip: bool | None = None
    train_images: int | None = None
    val_fraction: float = VAL_FRACTION
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise UsageError(f"--val-fraction {self.val_fraction}, expected between 0 and 1")
        if self.input_size is not None and not 1 <= self.input_size <= MAX_INPUT_SIZE:
            raise UsageError(f"--input-size {self.input_size}, expected 1 to {MAX_INPUT_SIZE}")
        if self.input_channels not in (None, 1, 3):
            raise UsageError(
                f"--input-channels {self.input_channels}, expected 1 (grey) or 3 (colour)"
            )
        if self.train_images is not None and self.train_images < 1:
            raise UsageError(f"--train-images {self.train_images}, expected at least 1")
        if self.epochs is not None and self.max_steps is not None:
            raise UsageError("give --epochs or --max-steps, not both")
        if self.new_head and self.start is None and self.arch is not None:
            raise UsageError(
                "--new-head is for --from MODEL; a network from scratch has a new head anyway"
            )
        if self.classes is not None and self.start is None:
            raise UsageError("--classes names the outputs of the model that --from names")
        if self.start is not None and self.changes_network:
            raise UsageError(
                "--input-size, --input-channels and --batch-norm are of the model that --from "
                "names, and cannot be changed"
            )

    @property
    def changes_network(self) -> bool:
        """Whether the network's input or layers are given: only for training from scratch."""
        return (self.input_size, self.input_channels, self.batch_norm) != (None, None, None)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPlan:
    """A training with every choice made.

    ``start`` is the path or published name of the model to fine-tune, or None. ``new_head``: its
    last layer is learned anew. ``teacher``: the model whose predictions are learned too, its batch
    normalisation folded.
    """

    model: LoadedModel
    data: TrainingData
    recipe: Recipe
    start: str | None
    new_head: bool
    teacher: LoadedModel | None
    seed: int
    val_fraction: float

    def run(
        self,
        folder: Path,
        options: FitOptions | None = None,
        after_epoch: AfterEpoch | None = None,
    ) -> dict[str, Any]:
        """Train into ``folder``; return ``result.json``, with the keys "from" and "new_head".

        ``after_epoch`` may end the training, see ``Fit``.

        Raises:
            CheckpointError, InterruptedRunError, DataError, ImageError: see ``train_run``.
        """
        result = train_run(
            self.model,
            self.data,
            self.recipe,
            folder,
            seed=self.seed,
            val_fraction=self.val_fraction,
            new_head=self.new_head,
            teacher=self.teacher,
            after_epoch=after_epoch,
            options=options,
        )
        return result | {"from": self.start, "new_head": self.new_head}


def plan_training(
    source: str,
    options: TrainOptions,
    progress: Progress | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> TrainingPlan:
    """Open the data and make every choice that ``options`` leaves open; log the main ones.

    Raises:
        UsageError: the options do not fit the data or each other.
        UnknownNameError, SpecError: no such architecture or recipe, or it does not fit its input.
        DataError: see ``open_training_data``.
        FetchError: published weights are neither in the cache nor reachable.
        WeightsError, FormatError: the model to fine-tune, or the teacher, cannot be used.
    """
    progress = progress or SilentProgress()
    data = open_training_data(source, val_fraction=options.val_fraction, limits=limits)
    log_findings(data.findings, progress)
    if options.train_images is not None:
        data = with_fewer_images(data, options.train_images)
    require_readable_classes(data.train)
    if options.arch is None and options.start is None:
        options = _with_default_start(source, data, options, progress)
    new_head = False
    if options.start is None:
        model, recipe = _from_scratch(source, data, options)
    else:
        model, recipe, new_head = _fine_tuned(source, data, options, progress)
    return TrainingPlan(
        model=model,
        data=data,
        recipe=recipe,
        start=None if options.start is None else str(options.start),
        new_head=new_head,
        teacher=_teacher(options, model, progress),
        seed=options.seed,
        val_fraction=options.val_fraction,
    )


def default_run_folder(source: str) -> Path:
    """Return the folder of a run where none is given: ``runs/`` and the data's name."""
    return _RUNS / data_name(source)


def _with_default_start(
    source: str, data: TrainingData, options: TrainOptions, progress: Progress
) -> TrainOptions:
    """Return the options with ``arch`` or ``start`` chosen by the data, and say so."""
    chosen = default_start(source, data)
    progress.log(f"no --arch or --from: {chosen.reason}")
    if chosen.published is None:
        if options.new_head:
            raise UsageError("--new-head is for --from MODEL, the model to fine-tune")
        size = options.input_size or chosen.input_size
        return dataclasses.replace(options, arch=chosen.arch, input_size=size)
    if options.changes_network:
        raise UsageError(
            "--input-size, --input-channels and --batch-norm are for training from scratch; add "
            f"--arch {chosen.published} to do so"
        )
    try:
        published_file(chosen.published, progress=progress)
    except FetchError as error:
        raise FetchError(f"{error}, or train from scratch with --arch {chosen.published}") from None
    return dataclasses.replace(options, start=chosen.published)


def _from_scratch(
    source: str, data: TrainingData, options: TrainOptions
) -> tuple[LoadedModel, Recipe]:
    assert options.arch is not None
    network = find_network(options.arch)
    choice = NetworkChoice(
        arch=network,
        input_size=options.input_size or suggest_input_size(network, data.train),
        input_channels=options.input_channels,
        batch_norm=options.batch_norm,
    )
    recipe = recipe_for(source, data, options, choice.size)
    return new_model(choice, recipe, data.class_names, options.seed), recipe


def _fine_tuned(
    source: str, data: TrainingData, options: TrainOptions, progress: Progress
) -> tuple[LoadedModel, Recipe, bool]:
    assert options.start is not None
    path = start_path(options.start, progress)
    network = options.arch
    if isinstance(network, str) and network.endswith(NETWORK_SUFFIX):
        network = find_network(network)
    arch = network if isinstance(network, str) else None
    pretrained = open_pretrained(path, arch, labels=options.classes, progress=progress)
    if network is not None and not isinstance(network, str):
        model, count = start_from_layers(pretrained, network, data.class_names, options.seed)
        layers = len(build_graph(model.record.spec).convs)
        progress.log(
            f"{network.name}: {count} of {layers} layers are those of "
            f"{pretrained.record.spec.name}; the others are initialised randomly"
        )
        size = model.record.spec.input_size
        return model, recipe_for(source, data, options, size, model.record), True
    new_head = needs_new_head(pretrained, data.class_names)
    if new_head and not options.new_head:
        progress.log(
            f"the data has {_classes(data.class_names)}, the model "
            f"{_classes(pretrained.record.class_names)}: a new last layer is learned"
        )
    new_head = new_head or options.new_head
    model = start_from(pretrained, data.class_names, new_head=new_head, seed=options.seed)
    size = model.record.spec.input_size
    recipe = recipe_for(source, data, options, size, model.record)
    return model, recipe, new_head


def _teacher(options: TrainOptions, model: LoadedModel, progress: Progress) -> LoadedModel | None:
    """Open the teacher of a model at step 0, which sees the images that the model sees."""
    if options.teacher is None:
        return None
    teacher = load_model(start_path(options.teacher, progress), progress=progress)
    theirs, ours = teacher.record, model.record
    if needs_new_head(teacher, ours.class_names):
        raise UsageError(
            f"--teacher {options.teacher}: predicts {_classes(theirs.class_names)}, the data has "
            f"{_classes(ours.class_names)}"
        )
    for name in ("crop", "channels", "mean", "std"):
        value = getattr(theirs.preprocessing, name)
        wanted = getattr(ours.preprocessing, name)
        if value != wanted:
            raise UsageError(
                f"--teacher {options.teacher}: its preprocessing has {name} {value}, the network's "
                f"{wanted}; a teacher gets the images that the network gets"
            )
    # The run records the file, which the folded model no longer names.
    return dataclasses.replace(fold_batch_norm(teacher), source=teacher.source)


def start_path(start: Path | str, progress: Progress) -> Path:
    """Return the file or folder of a model; published weights are fetched.

    Raises:
        FetchError: they are neither in the cache nor reachable.
    """
    if isinstance(start, str) and start in PUBLISHED:
        return published_file(start, progress=progress)
    return Path(start)


def _classes(names: tuple[str, ...]) -> str:
    """Write a number of classes and the first few names."""
    dots = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"{len(names):,} classes ({', '.join(names[:_NAMES_SHOWN])}{dots})"


def recipe_for(
    source: str,
    data: TrainingData,
    options: TrainOptions,
    input_size: tuple[int, int],
    start: ModelRecord | None = None,
) -> Recipe:
    """Return the named or default recipe for data and a network's input, with the options' changes.

    Raises:
        UsageError, UnknownNameError: there is no such recipe.
    """
    if options.recipe is not None:
        recipe = find_recipe(options.recipe)
    else:
        recipe = default_recipe(source, input_size=input_size, start=start)
        if start is None and options.batch_size is None:
            recipe = recipe.for_set_of(len(data.train))
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("epochs", "max_steps", "batch_size", "micro_batch")
        if getattr(options, name) is not None
    }
    if options.epochs is not None:
        changes["max_steps"] = None  # of a recipe whose length is in steps
    if options.flip is not None:
        changes["augmentation"] = dataclasses.replace(recipe.augmentation, flip=options.flip)
    try:
        recipe = dataclasses.replace(recipe, **changes)
        if options.learning_rate is not None:
            recipe = recipe.at_rate(options.learning_rate)
    except SpecError as error:
        raise UsageError(str(error)) from None
    return recipe
