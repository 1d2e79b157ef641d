"""``squeezenet explore``: sweeps over metaparameters, a search, and the paper's table 2."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from squeezenet.api.compression_table import compression_table
from squeezenet.api.explore import explore as compare
from squeezenet.api.explore import search
from squeezenet.cli.options import (
    RUNNING,
    CheckpointOption,
    DeviceOption,
    JsonOption,
    MaxMemoryOption,
    MaxPixelsOption,
    WorkersOption,
)
from squeezenet.cli.output import make_progress
from squeezenet.cli.study_output import (
    print_compression_table_json,
    print_study_json,
    show_compression_table,
    show_study,
)
from squeezenet.cli.train import (
    BatchNormOption,
    BatchSizeOption,
    EpochsOption,
    FlipOption,
    InputSizeOption,
    LearningRateOption,
    MaxStepsOption,
    RecipeOption,
    TrainImagesOption,
    ValFractionOption,
)
from squeezenet.errors import UsageError
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY

_SWEEPS = Group("Sweeps", sort_key=1)
_SEARCH = Group("Search", sort_key=2)
_TABLE = Group("Table 2", sort_key=3)
_SEARCH_WORD, _TABLE_WORD = "search", "table2"
_OF_TRIALS = ("jobs", "storage", "join")
_OF_SWEEPS = (
    "values", "seeds", "arch", "base_e", "incr_e", "freq", "pct3x3", "squeeze_ratio", "max_steps",
    "batch_norm", *_OF_TRIALS,
)  # fmt: skip
_OF_SEARCH = (
    "max_file_bytes", "max_macs", "max_arena_bytes", "max_latency_ms", "trials", "divergence",
    "from_", "input_size", *_OF_TRIALS,
)  # fmt: skip
_OF_TABLE = ("arch", "baseline", "retrain_epochs", "effort", "max_steps", "input_size")
"""Options that not every kind of study has."""


def explore(
    study: Annotated[
        str,
        Parameter(
            help="A sweep over one metaparameter: sr (squeeze ratio), pct3x3, bypass, base-e, "
            "incr-e, freq or input-size; table3 is the paper's table of bypass forms. Or search: "
            "for the best network within budgets. Or table2: the paper's table of AlexNet and "
            "SqueezeNet, compressed."
        ),
    ],
    data: Annotated[
        str,
        Parameter(
            help="Images to train on, as for squeezenet train. Accuracy is measured on the part "
            "test/, else on what training holds out; by a search always on the latter."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the study. The same command again resumes a study that was stopped, "
            "or goes on with more --values, --seeds or --trials."
        ),
    ],
    values: Annotated[
        str | None,
        Parameter(
            group=_SWEEPS,
            help="Values of the metaparameter, with commas (default: see docs/explore.md).",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        Parameter(group=_SWEEPS, help="Trainings of each network (default: 3; table3: 5)."),
    ] = None,
    arch: Annotated[
        str | None,
        Parameter(
            group=_SWEEPS,
            help="Stem, pools, head and number of Fire modules: a name or a JSON file (default: "
            "squeezenet1_0). For table2, the SqueezeNet (default: chosen by the data).",
        ),
    ] = None,
    base_e: Annotated[
        int | None,
        Parameter(
            group=_SWEEPS,
            help="Expand filters of the first Fire module (default: 128, as in v1.0).",
        ),
    ] = None,
    incr_e: Annotated[
        int | None,
        Parameter(group=_SWEEPS, help="Expand filters added after --freq modules (default: 128)."),
    ] = None,
    freq: Annotated[
        int | None,
        Parameter(group=_SWEEPS, help="Fire modules of equal width in a row (default: 2)."),
    ] = None,
    pct3x3: Annotated[
        float | None,
        Parameter(
            group=_SWEEPS,
            name="--pct3x3",
            help="Share of 3x3 filters in the expand layers (default: 0.5).",
        ),
    ] = None,
    squeeze_ratio: Annotated[
        float | None,
        Parameter(
            group=_SWEEPS,
            help="Squeeze filters per expand filter (default: 0.125; in the sweep pct3x3 0.5, as "
            "in the paper).",
        ),
    ] = None,
    max_file_bytes: Annotated[
        int | None, Parameter(group=_SEARCH, help="Max bytes of the compressed file.")
    ] = None,
    max_macs: Annotated[
        int | None, Parameter(group=_SEARCH, help="Max multiply-accumulates per image.")
    ] = None,
    max_arena_bytes: Annotated[
        int | None,
        Parameter(group=_SEARCH, help="Max bytes of memory for activations in the C runtime."),
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        Parameter(group=_SEARCH, help="Max milliseconds per image on this machine, one thread."),
    ] = None,
    trials: Annotated[
        int | None, Parameter(group=_SEARCH, help="Networks to train (default: 50).")
    ] = None,
    divergence: Annotated[
        float | None,
        Parameter(
            group=_SEARCH,
            help="What compress may lose at the sizes that are compared, in nats (default: 0.07, "
            "or 0.01 with fewer than 500 images).",
        ),
    ] = None,
    from_: Annotated[
        str | None,
        Parameter(
            name="--from",
            group=_SEARCH,
            help="Pretrained model: all networks begin with its first Fire modules and start from "
            "their weights. As for squeezenet train.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        Parameter(
            group=_TABLE,
            help="The AlexNet: a name or a JSON file (default: alexnet, or alexnet_cifar for small "
            "images).",
        ),
    ] = None,
    retrain_epochs: Annotated[
        int | None,
        Parameter(
            group=_TABLE,
            help="Epochs of each retraining after a network was factorised or pruned; two fifths "
            "of it after its weights were shared (default: as for squeezenet compress).",
        ),
    ] = None,
    effort: Annotated[
        Literal["low", "medium", "high"] | None,
        Parameter(group=_TABLE, help="Effort of method rd (default: medium)."),
    ] = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    batch_norm: BatchNormOption = None,
    input_size: InputSizeOption = None,
    flip: FlipOption = None,
    train_images: TrainImagesOption = None,
    val_fraction: ValFractionOption = 0.1,
    jobs: Annotated[
        int | None,
        Parameter(
            group=RUNNING,
            help="Trials that run side by side (default: one per GPU, else one per core).",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        Parameter(
            group=RUNNING,
            help="URL of a database that many machines share, as "
            "postgresql+psycopg://user@host/name (default: SQLite in the study's folder).",
        ),
    ] = None,
    join: Annotated[
        bool,
        Parameter(
            negative=(),
            group=RUNNING,
            help="Take trials of the study that the same command without --join has started.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    checkpoint_every: CheckpointOption = 60.0,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    json: JsonOption = False,
) -> None:
    """Compare networks of one family, search it for the best one, or make the paper's table 2."""
    everywhere: dict[str, Any] = {
        "out": out,
        "recipe": recipe,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "flip": flip,
        "train_images": train_images,
        "val_fraction": val_fraction,
        "device": device,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
        "max_pixels": max_pixels,
        "max_memory": max_memory,
        "progress": make_progress(),
    }
    options: dict[str, Any] = {
        "values": None if values is None else [text.strip() for text in values.split(",")],
        "seeds": seeds,
        "arch": arch,
        "base_e": base_e,
        "incr_e": incr_e,
        "freq": freq,
        "pct3x3": pct3x3,
        "squeeze_ratio": squeeze_ratio,
        "max_steps": max_steps,
        "batch_norm": batch_norm,
        "max_file_bytes": max_file_bytes,
        "max_macs": max_macs,
        "max_arena_bytes": max_arena_bytes,
        "max_latency_ms": max_latency_ms,
        "trials": trials,
        "divergence": divergence,
        "from_": from_,
        "input_size": input_size,
        "baseline": baseline,
        "retrain_epochs": retrain_epochs,
        "effort": effort,
        "jobs": jobs,
        "storage": storage,
        "join": join or None,
    }
    if study == _TABLE_WORD:
        table = compression_table(data, **everywhere, **_for(_TABLE_WORD, options, _OF_TABLE))
        if json:
            print_compression_table_json(table)
        else:
            show_compression_table(table)
        return
    if study == _SEARCH_WORD:
        found = search(data, **everywhere, **_for(_SEARCH_WORD, options, _OF_SEARCH))
    else:
        found = compare(study, data, **everywhere, **_for(study, options, _OF_SWEEPS))
    if json:
        print_study_json(found)
    else:
        show_study(found)
    found.require_all_done()


def _for(kind: str, options: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the options that were given; refuse one that this kind of study does not know."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            option = name.strip("_").replace("_", "-")
            raise UsageError(f"--{option} is not for {kind}")
    return given
