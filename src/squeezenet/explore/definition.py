"""What a user asked for, and the study that follows from it and from the data.

In:  a DATA argument and ``SweepOptions``.
Out: a ``StudyDefinition``: the trials, and what they have in common.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from squeezenet.arch.network_file import find_network
from squeezenet.arch.presets import adapted
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.data.locations import data_name
from squeezenet.data.sources import TrainingData, open_training_data, with_fewer_images
from squeezenet.errors import SpecError, UnknownNameError, UsageError
from squeezenet.explore.plan import TrialPlan, plans
from squeezenet.explore.sweeps import SWEEPS, Metaparameters, Sweep, variants
from squeezenet.explore.trial import measured_on
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.images.walk import log_findings
from squeezenet.progress import Progress
from squeezenet.report.study.results import StudyResults, TrialRow
from squeezenet.train.plan import TrainOptions, recipe_for
from squeezenet.train.recipe import Recipe
from squeezenet.train.start import suggest_input_size

MAX_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """The options of a sweep; None leaves the choice to the sweep or the paper.

    ``sweep``: a name of ``SWEEPS``. ``values``: those of its metaparameter, as texts. ``arch``: a
    preset or a network's JSON file. ``training``: the shared recipe.

    Raises:
        UsageError: a value is out of range, or two options exclude each other.
        UnknownNameError: there is no such sweep.
    """

    sweep: str
    values: tuple[str, ...] | None = None
    seeds: int = 3
    arch: str = "squeezenet1_0"
    base_e: int | None = None
    incr_e: int | None = None
    freq: int | None = None
    pct3x3: float | None = None
    squeeze_ratio: float | None = None
    training: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if self.sweep not in SWEEPS:
            raise UnknownNameError(
                f"unknown sweep {self.sweep!r}; expected one of {', '.join(SWEEPS)}"
            )
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise UsageError(f"--seeds {self.seeds}, expected 1 to {MAX_SEEDS}")
        changed = SWEEPS[self.sweep].changes
        if changed is not None and getattr(self, changed) is not None:
            raise UsageError(
                f"--{changed.replace('_', '-')} is what the sweep {self.sweep} changes; give its "
                "values by --values"
            )

    def command(self, source: str, out: str) -> str:
        """Return the command that makes the study."""
        words = ["squeezenet", "explore", self.sweep, source, "--out", out]
        for options in (self, self.training):
            for each in dataclasses.fields(options):
                value = getattr(options, each.name)
                default = each.default
                if each.name in ("sweep", "training") or value == default:
                    continue
                name = each.name.replace("_", "-")
                if isinstance(value, bool):
                    words.append(f"--{name}" if value else f"--no-{name}")
                else:
                    shown = ",".join(value) if isinstance(value, tuple) else str(value)
                    words += [f"--{name}", shown]
        return shlex.join(words)


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyDefinition:
    """A study with every choice made.

    ``training`` is what the user said of the recipe, ``recipe`` what follows from it. ``settings``
    are what it must have in common with the study that it goes on with: all but the values and
    seeds, of which there may be more.
    """

    source: str
    sweep: Sweep
    base: Metaparameters
    plans: tuple[TrialPlan, ...]
    training: TrainOptions
    recipe: Recipe
    settings: dict[str, Any]
    data: TrainingData
    measured_on: str
    command: str

    def results(self, name: str, trials: Sequence[TrialRow]) -> StudyResults:
        """Return the study for its report."""
        return StudyResults(
            name=name,
            title=self.sweep.title,
            axis=self.sweep.axis,
            data=self.measured_on,
            settings=tuple(self._shown()),
            command=self.command,
            trials=tuple(trials),
        )

    def _shown(self) -> list[tuple[str, str]]:
        recipe, batch_norm = self.recipe, self.training.batch_norm
        shown = [
            ("data", data_name(self.source)),
            ("training images", f"{len(self.data.train):,}"),
            ("validation images", f"{len(self.data.val):,}"),
            ("classes", str(len(self.data.class_names))),
            ("stem, pools and depth of", self.base.arch.name),
            ("recipe", recipe.name),
            ("length", f"{recipe.max_steps or recipe.epochs} {_unit(recipe.max_steps)}"),
            ("batch size", str(recipe.batch_size)),
            ("peak learning rate", f"{recipe.learning_rate:g}"),
            ("batch normalisation", str(recipe.batch_norm if batch_norm is None else batch_norm)),
        ]
        for each in dataclasses.fields(self.base):
            if each.name not in ("arch", self.sweep.changes):
                shown.append((each.name, f"{getattr(self.base, each.name):g}"))
        return shown


def define_sweep(
    source: str,
    out: str,
    options: SweepOptions,
    progress: Progress,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> StudyDefinition:
    """Open the data, and make every choice that ``options`` leave open.

    Raises:
        UsageError, UnknownNameError, SpecError: the options do not make networks for the data.
        DataError: see ``open_training_data``.
    """
    training = options.training
    data = open_training_data(source, val_fraction=training.val_fraction, limits=limits)
    log_findings(data.findings, progress)
    if training.train_images is not None:
        data = with_fewer_images(data, training.train_images)
    sweep = SWEEPS[options.sweep]
    base = _metaparameters(sweep, options, data)
    texts = options.values if options.values is not None else sweep.values
    return StudyDefinition(
        source=source,
        sweep=sweep,
        base=base,
        plans=tuple(plans(variants(sweep, base, texts), options.seeds)),
        training=training,
        recipe=recipe_for(source, data, training, base.arch.input_size),
        settings={
            "sweep": sweep.name,
            "metaparameters": to_plain(base),
            "training": _given(training),
            "data": {"classes": len(data.class_names), **data.fingerprint().summary},
        },
        data=data,
        measured_on=measured_on(source, data, limits),
        command=options.command(source, out),
    )


def _metaparameters(sweep: Sweep, options: SweepOptions, data: TrainingData) -> Metaparameters:
    """The paper's metaparameters, then the sweep's, then those that were given."""
    arch = find_network(options.arch)
    if not isinstance(arch, SqueezeNetSpec):
        raise UsageError(f"--arch {options.arch}: is no SqueezeNet; sweeps are of that family")
    size = options.training.input_size or suggest_input_size(arch, data.train)
    arch = adapted(
        arch,
        num_classes=len(data.class_names),
        input_size=None if size is None else (size, size),
        input_channels=options.training.input_channels,
    )
    assert isinstance(arch, SqueezeNetSpec)
    names = [each.name for each in dataclasses.fields(Metaparameters) if each.name != "arch"]
    given = {name: getattr(options, name) for name in names}
    values = dict(sweep.defaults) | {k: v for k, v in given.items() if v is not None}
    base = Metaparameters(arch=arch, **values)
    try:
        base.network()
    except SpecError as error:
        raise UsageError(str(error)) from None
    return base


def _given(training: TrainOptions) -> dict[str, Any]:
    """The options of the recipe that were given."""
    default = TrainOptions()
    return {
        each.name: getattr(training, each.name)
        for each in dataclasses.fields(training)
        if getattr(training, each.name) != getattr(default, each.name)
    }


def _unit(max_steps: int | None) -> str:
    return "epochs" if max_steps is None else "steps"
