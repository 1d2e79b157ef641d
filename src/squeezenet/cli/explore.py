"""``squeezenet explore``: sweeps over the family's metaparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.explore import StudyResult
from squeezenet.api.explore import explore as explore_into_folder
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
    LearningRateOption,
    MaxStepsOption,
    RecipeOption,
    TrainImagesOption,
    ValFractionOption,
)
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY

_COLUMNS = (
    Column("network", rank=1),
    Column("top-1 %", rank=0),
    Column("top-5 %", rank=5, optional=True),
    Column("seeds", rank=4, optional=True),
    Column("MB", rank=2, optional=True),
    Column("MACs", rank=3, optional=True),
)


def explore(
    sweep: Annotated[
        str,
        Parameter(
            help="Metaparameter to change: sr (squeeze ratio), pct3x3, bypass, base-e, incr-e, "
            "freq or input-size."
        ),
    ],
    data: Annotated[
        str,
        Parameter(
            help="Images to train on, as for squeezenet train. Accuracy is measured on the part "
            "test/, else on what training holds out."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the study. The same command again goes on with a study that was "
            "stopped, or with more --values or --seeds."
        ),
    ],
    values: Annotated[
        str | None,
        Parameter(help="Values of the metaparameter, with commas (default: the paper's)."),
    ] = None,
    seeds: Annotated[int, Parameter(help="Trainings of each network.")] = 3,
    arch: Annotated[
        str,
        Parameter(help="Stem, pools, head and number of Fire modules: a name or a JSON file."),
    ] = "squeezenet1_0",
    base_e: Annotated[
        int | None,
        Parameter(help="Expand filters of the first Fire module (default: 128, as in v1.0)."),
    ] = None,
    incr_e: Annotated[
        int | None, Parameter(help="Expand filters added after --freq modules (default: 128).")
    ] = None,
    freq: Annotated[
        int | None, Parameter(help="Fire modules of equal width in a row (default: 2).")
    ] = None,
    pct3x3: Annotated[
        float | None,
        Parameter(
            name="--pct3x3", help="Share of 3x3 filters in the expand layers (default: 0.5)."
        ),
    ] = None,
    squeeze_ratio: Annotated[
        float | None,
        Parameter(
            help="Squeeze filters per expand filter (default: 0.125; in the sweep pct3x3 0.5, as "
            "in the paper)."
        ),
    ] = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    batch_norm: BatchNormOption = None,
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
    """Compare networks that differ in one metaparameter."""
    found = explore_into_folder(
        sweep,
        data,
        out=out,
        values=None if values is None else [text.strip() for text in values.split(",")],
        seeds=seeds,
        arch=arch,
        base_e=base_e,
        incr_e=incr_e,
        freq=freq,
        pct3x3=pct3x3,
        squeeze_ratio=squeeze_ratio,
        recipe=recipe,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        batch_norm=batch_norm,
        flip=flip,
        train_images=train_images,
        val_fraction=val_fraction,
        jobs=jobs,
        storage=storage,
        join=join,
        device=device,
        checkpoint_every=checkpoint_every,
        workers=workers,
        max_pixels=max_pixels,
        max_memory=max_memory,
        progress=make_progress(),
    )
    _show(found, as_json=json)
    found.require_all_done()


def _show(found: StudyResult, *, as_json: bool) -> None:
    results = found.results
    if as_json:
        print_json(
            plain(
                {
                    "out": str(found.out),
                    "page": str(found.page),
                    "measured_on": results.data,
                    "networks": results.variants(),
                    "trials": results.trials,
                }
            )
        )
        return
    rows = [
        [
            row.label,
            str(row.top1),
            f"{row.top5.mean:.2f}" if results.has_top5 else "",
            str(row.top1.count),
            f"{row.measures.weight_bytes / 1e6:.2f}",
            f"{row.measures.macs:,}",
        ]
        for row in results.variants()
    ]
    print_table(f"{results.title}, on {results.data}", _COLUMNS, rows)
    print_text(f"{results.count('done')} trials; {found.page}")
