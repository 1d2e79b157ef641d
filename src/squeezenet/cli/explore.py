"""``squeezenet explore``: sweeps over the family's metaparameters, and a search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from squeezenet.api.explore import StudyResult, search
from squeezenet.api.explore import explore as compare
from squeezenet.cli.options import (
    RUNNING,
    CheckpointOption,
    DeviceOption,
    JsonOption,
    MaxMemoryOption,
    MaxPixelsOption,
    WorkersOption,
)
from squeezenet.cli.output import make_progress, plain, print_json
from squeezenet.cli.table import Column, print_table, print_text
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
_SEARCH_WORD = "search"
_COLUMNS = (
    Column("network", rank=1),
    Column("top-1 %", rank=0),
    Column("top-5 %", rank=5, optional=True),
    Column("seeds", rank=4, optional=True),
    Column("MB", rank=2, optional=True),
    Column("MACs", rank=3, optional=True),
    Column("paper, ImageNet", rank=6, optional=True),
)
_SEARCH_COLUMNS = (
    Column("network", rank=1),
    Column("top-1 %", rank=0),
    Column("file bytes", rank=0),
    Column("parameters", rank=4, optional=True),
    Column("MACs", rank=2, optional=True),
    Column("arena bytes", rank=3, optional=True),
)


def explore(
    study: Annotated[
        str,
        Parameter(
            help="A sweep over one metaparameter: sr (squeeze ratio), pct3x3, bypass, base-e, "
            "incr-e, freq or input-size; table3 is the paper's table of bypass forms. Or search: "
            "for the best network within budgets."
        ),
    ],
    data: Annotated[
        str,
        Parameter(
            help="Images to train on, as for squeezenet train. Sweeps measure on the part test/, "
            "else on what training holds out; a search always on the latter."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the study. The same command again goes on with a study that was "
            "stopped, or with more --values, --seeds or --trials."
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
            "squeezenet1_0).",
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
            help="What compress may lose at the sizes that are compared, in nats (default: 0.07).",
        ),
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
    """Compare networks of one family, or search it for the best one within budgets."""
    shared: dict[str, Any] = {
        "out": out,
        "recipe": recipe,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "flip": flip,
        "train_images": train_images,
        "val_fraction": val_fraction,
        "jobs": jobs,
        "storage": storage,
        "join": join,
        "device": device,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
        "max_pixels": max_pixels,
        "max_memory": max_memory,
        "progress": make_progress(),
    }
    of_sweeps: dict[str, Any] = {
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
    }
    of_search: dict[str, Any] = {
        "max_file_bytes": max_file_bytes,
        "max_macs": max_macs,
        "max_arena_bytes": max_arena_bytes,
        "max_latency_ms": max_latency_ms,
        "trials": trials,
        "divergence": divergence,
        "input_size": input_size,
    }
    if study == _SEARCH_WORD:
        _refuse(of_sweeps, "sweeps")
        found = search(data, **shared, **_given(of_search))
    else:
        _refuse(of_search, _SEARCH_WORD)
        found = compare(study, data, **shared, **_given(of_sweeps))
    if json:
        _print_json(found)
    elif found.results.search is not None:
        _show_search(found)
    else:
        _show_sweep(found)
    found.require_all_done()


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: dict[str, Any], belongs: str) -> None:
    """Refuse options of another kind of study."""
    for name in _given(options):
        raise UsageError(f"--{name.replace('_', '-')} is for {belongs}")


def _print_json(found: StudyResult) -> None:
    results = found.results
    trials = [
        {name: value for name, value in plain(trial).items() if name != "spec"}
        for trial in results.trials
    ]
    print_json(
        {
            "out": str(found.out),
            "page": str(found.page),
            "measured_on": results.data,
            "networks": plain(results.variants()),
            "trials": trials,
            **({"search": plain(results.search)} if results.search else {}),
        }
    )


def _show_sweep(found: StudyResult) -> None:
    results = found.results
    paper = dict(results.paper)
    columns = _COLUMNS if paper else _COLUMNS[:-1]
    rows = [
        [
            row.label,
            str(row.top1),
            f"{row.top5.mean:.2f}" if results.has_top5 else "",
            str(row.top1.count),
            f"{row.measures.weight_bytes / 1e6:.2f}",
            f"{row.measures.macs:,}",
            *([str(paper.get(row.label, ""))] if paper else []),
        ]
        for row in results.variants()
    ]
    print_table(f"{results.title}, on {results.data}", columns, rows)
    print_text(f"{results.count('done')} trials; {found.page}")


def _show_search(found: StudyResult) -> None:
    results = found.results
    searched = results.search
    assert searched is not None
    rows = [
        [
            trial.name,
            f"{m.top1:.2f}",
            f"{m.file_bytes or 0:,}",
            f"{m.parameters:,}",
            f"{m.macs:,}",
            f"{m.arena_bytes or 0:,}",
        ]
        for trial in results.front_trials()
        if (m := trial.measures) is not None
    ]
    print_table(
        f"front of {results.count('done')} networks, on {results.data}", _SEARCH_COLUMNS, rows
    )
    for finalist in searched.finalists:
        print_text(
            f"{finalist.name} compressed: {finalist.file_bytes:,} bytes (estimated "
            f"{finalist.estimated_bytes:,}), top-1 {finalist.top1:.2f}% in integers"
        )
    if searched.best is None:
        print_text("no network is within the budgets; more --trials may find one")
    else:
        print_text(f"best within the budgets: {searched.best}; to train it in full:")
        print_text(searched.train_best)
    print_text(str(found.page))
