"""What a user asks of a sweep, and the study that follows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from squeezenet.arch.network_file import find_network
from squeezenet.arch.presets import adapted
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import SqueezeNetSpec
from squeezenet.data.sources import TrainingData
from squeezenet.errors import SpecError, UnknownNameError, UsageError
from squeezenet.explore.definition import (
    StudyDefinition,
    command_line,
    data_settings,
    given,
    training_settings,
)
from squeezenet.explore.plan import plans
from squeezenet.explore.sweeps import SWEEPS, Metaparameters, Sweep, variants
from squeezenet.explore.trial import measured_on, measured_settings, open_data
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits
from squeezenet.progress import Progress
from squeezenet.train.plan import TrainOptions, recipe_for
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
    seeds: int | None = None
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
                f"unknown study {self.sweep!r}; expected one of {', '.join(SWEEPS)}, or search"
            )
        if self.seeds is not None and not 1 <= self.seeds <= MAX_SEEDS:
            raise UsageError(f"--seeds {self.seeds}, expected 1 to {MAX_SEEDS}")
        changed = SWEEPS[self.sweep].changes
        if changed is not None and getattr(self, changed) is not None:
            raise UsageError(
                f"--{changed.replace('_', '-')} is what the sweep {self.sweep} changes; give its "
                "values by --values"
            )


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
    data = open_data(source, training, progress, limits)
    sweep = SWEEPS[options.sweep]
    base = _metaparameters(sweep, options, data)
    texts = options.values if options.values is not None else sweep.values
    recipe = recipe_for(source, data, training, base.arch.input_size)
    return StudyDefinition(
        title=sweep.title,
        axis=sweep.axis,
        source=source,
        data=data,
        # One recipe for all, whatever a network's input: by default the input chooses it.
        training=dataclasses.replace(
            training,
            recipe=training.recipe or recipe.name,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
        ),
        recipe=recipe,
        settings={
            "sweep": sweep.name,
            "metaparameters": to_plain(base),
            "training": training_settings(training, recipe),
            "data": data_settings(data),
            "measured": measured_settings(source, data, limits),
        },
        measured_on=measured_on(source, data, limits),
        command=command_line(sweep.name, source, out, given(options), given(training)),
        plans=tuple(plans(variants(sweep, base, texts), options.seeds or sweep.seeds)),
        paper=tuple(sweep.paper.items()),
        shown=(
            ("stem, pools and depth of", base.arch.name),
            *(
                (each.name, f"{getattr(base, each.name):g}")
                for each in dataclasses.fields(base)
                if each.name not in ("arch", sweep.changes)
            ),
        ),
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
