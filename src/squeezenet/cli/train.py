"""``squeezenet train``: labelled images to a trained network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from squeezenet.api.open_model import open_model
from squeezenet.arch.spec import MAX_INPUT_SIZE
from squeezenet.cli.options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    StrictOption,
    ThreadsOption,
    WorkersOption,
    require_checkpoint_every,
    require_seed,
    require_workers,
    set_threads,
)
from squeezenet.cli.output import bad_images, make_progress, plain, print_json, report_skipped
from squeezenet.cli.report import draw_report
from squeezenet.errors import SpecError, SqueezeNetError, UsageError
from squeezenet.extras import require_extra
from squeezenet.images.bad import BadImages
from squeezenet.images.sets import ImageSet
from squeezenet.progress import Progress


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
    require_extra("train", "training")
    if not 0 < val_fraction < 1:
        raise UsageError(f"--val-fraction {val_fraction}, expected between 0 and 1")
    require_seed(seed)
    require_workers(workers)
    require_checkpoint_every(checkpoint_every)
    if input_size is not None and not 1 <= input_size <= MAX_INPUT_SIZE:
        raise UsageError(f"--input-size {input_size}, expected 1 to {MAX_INPUT_SIZE}")
    if input_channels not in (None, 1, 3):
        raise UsageError(f"--input-channels {input_channels}, expected 1 (grey) or 3 (colour)")
    if epochs is not None and max_steps is not None:
        raise UsageError("give --epochs or --max-steps, not both")
    if new_head and from_ is None:
        raise UsageError("--new-head is for --from MODEL; a network from scratch has a new head")
    if from_ is not None and (input_size, input_channels, batch_norm) != (None, None, None):
        raise UsageError(
            "--input-size, --input-channels and --batch-norm are of the model that --from names"
        )
    if from_ is None and arch is None:
        raise UsageError("give --arch NAME to train from scratch, or --from MODEL to fine-tune")
    from squeezenet.data.sources import open_training_data
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware
    from squeezenet.train.recipe import recipe_named
    from squeezenet.train.run import (
        NetworkChoice,
        default_recipe,
        new_model,
        start_from,
        suggest_input_size,
        train_run,
    )
    from squeezenet.train.run_folder import REPORT

    set_threads(threads)
    progress = make_progress()
    bad = bad_images(progress, strict=strict)
    images = open_training_data(data, val_fraction=val_fraction)
    changes = {
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
    }
    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    if epochs is not None:
        given["max_steps"] = None  # of a recipe that counts in steps
    start = None
    if from_ is not None:
        start = start_from(from_, arch, images.class_names, new_head=new_head, seed=seed)
        size = start.record.spec.input_size
    else:
        assert arch is not None
        if input_size is None:
            input_size = suggest_input_size(arch, images.train)
        choice = NetworkChoice(
            arch=arch,
            input_size=input_size,
            input_channels=input_channels,
            batch_norm=batch_norm,
        )
        size = choice.size
    if recipe is not None:
        chosen = recipe_named(recipe)
    elif start is not None:
        chosen = default_recipe(data, input_size=size, start=start.record)
    else:
        chosen = default_recipe(data, input_size=size)
        if batch_size is None:
            chosen = chosen.for_set_of(len(images.train))
    if flip is not None:
        given["augmentation"] = dataclasses.replace(chosen.augmentation, flip=flip)
    try:
        chosen = dataclasses.replace(chosen, **given)
        if learning_rate is not None:
            chosen = chosen.at_rate(learning_rate)
    except SpecError as error:
        raise UsageError(str(error)) from None
    model = start or new_model(choice, chosen, images.class_names, seed)
    options = FitOptions(
        hardware=choose_hardware(device, precision),
        workers=workers,
        checkpoint_seconds=checkpoint_every,
        bad=bad,
        progress=progress,
    )
    result = train_run(
        model,
        images,
        chosen,
        out,
        seed=seed,
        val_fraction=val_fraction,
        new_head=new_head,
        options=options,
    )
    report = out / REPORT
    _draw(out, report, images.val, Path(data).resolve().name, workers, bad, progress)
    report_skipped(bad, progress)
    if json:
        print_json(plain({"out": str(out), **result, "skipped": bad.count}))
        return
    print(
        f"{out}: best top-1 {result['best_top1']:.1f}% at epoch {result['best_epoch']} on "
        f"{result['val_images']} validation images; {result['train_images']} training images, "
        f"{result['steps']} steps, {result['seconds']:.0f} s"
        + (f"; pictures in {report}" if report.is_dir() else "")
    )


def _draw(
    run: Path,
    report: Path,
    val: ImageSet,
    data: str,
    workers: int | None,
    bad: BadImages,
    progress: Progress,
) -> None:
    """Draw the report, if it is not there; what goes wrong costs the pictures, not the training."""
    try:
        require_extra("report", "drawing the report")
        from squeezenet.report.write import CARD

        if (report / CARD).is_file():
            return
        draw_report(
            open_model(run),
            val,
            report,
            f"kept aside from {data} and never trained on",
            run=run,
            chose_weights=True,
            workers=workers,
            bad=bad,
            progress=progress,
        )
    except (SqueezeNetError, OSError, ValueError) as error:
        progress.log(f"no report: {error}; squeezenet report draws one later")
