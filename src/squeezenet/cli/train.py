"""``squeezenet train``: labelled images to a trained network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from squeezenet.api.train import train as train_run_folder
from squeezenet.cli.options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    StrictOption,
    ThreadsOption,
    WorkersOption,
)
from squeezenet.cli.output import make_progress, plain, print_json, report_skipped


def train(
    data: Annotated[
        str,
        Parameter(
            help="Folder train/<class>/* (val/ beside it is used, test/ never read), folder "
            "<class>/* that is split, or the word digits."
        ),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for the run; an interrupted run goes on in it.")],
    arch: Annotated[str | None, Parameter(help="Architecture, see squeezenet info.")] = None,
    from_: Annotated[
        Path | None, Parameter(name="--from", help="Model to start from (fine-tuning).")
    ] = None,
    new_head: Annotated[
        bool,
        Parameter(negative=(), help="With --from: learn the last layer anew, for other classes."),
    ] = False,
    recipe: Annotated[
        str | None,
        Parameter(
            help="default, small, digits, finetune or paper; chosen by the data if not given."
        ),
    ] = None,
    epochs: Annotated[int | None, Parameter(help="Instead of the recipe's.")] = None,
    max_steps: Annotated[int | None, Parameter(help="Optimiser steps, instead of epochs.")] = None,
    batch_size: Annotated[int | None, Parameter(help="Images an optimiser step.")] = None,
    micro_batch: Annotated[
        int | None, Parameter(help="Images at a time in memory; gradients add up to a batch.")
    ] = None,
    learning_rate: Annotated[float | None, Parameter(help="Instead of the recipe's.")] = None,
    input_size: Annotated[
        int | None, Parameter(help="Pixels a side; small images choose the small-input form.")
    ] = None,
    input_channels: Annotated[int | None, Parameter(help="1 for grey, 3 for colour.")] = None,
    batch_norm: Annotated[bool | None, Parameter(help="Instead of the recipe's choice.")] = None,
    flip: Annotated[
        bool | None,
        Parameter(help="Mirror images in every other epoch; not for digits and letters."),
    ] = None,
    val_fraction: Annotated[
        float, Parameter(help="Share of each class kept aside where there is no val/.")
    ] = 0.1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Parameter(help="auto: bfloat16 where the hardware multiplies in it."),
    ] = "auto",
    threads: ThreadsOption = None,
    checkpoint_every: CheckpointOption = 60.0,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Train or fine-tune a network; resumes where it was stopped."""
    progress = make_progress()
    result = train_run_folder(
        data,
        out=out,
        arch=arch,
        from_=from_,
        new_head=new_head,
        recipe=recipe,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        micro_batch=micro_batch,
        learning_rate=learning_rate,
        input_size=input_size,
        input_channels=input_channels,
        batch_norm=batch_norm,
        flip=flip,
        val_fraction=val_fraction,
        seed=seed,
        device=device,
        precision=precision,
        threads=threads,
        checkpoint_every=checkpoint_every,
        strict=strict,
        workers=workers,
        progress=progress,
    )
    report_skipped(result.skipped, progress)
    if json:
        print_json(plain(dataclasses.asdict(result) | {"out": str(out)}))
        return
    print(
        f"{out}: best top-1 {result.best_top1:.1f}% at epoch {result.best_epoch} on "
        f"{result.val_images} validation images; {result.train_images} training images, "
        f"{result.steps} steps, {result.seconds:.0f} s"
        + (f"; pictures in {result.report}" if result.report else "")
    )
