"""``squeezenet train``: labelled images to a trained network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from squeezenet.api.train import TrainResult
from squeezenet.api.train import train as train_into_folder
from squeezenet.cli.options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    ListUnusedOption,
    MaxMemoryOption,
    MaxPixelsOption,
    RankTimeoutOption,
    SeedOption,
    StrictOption,
    ThreadsOption,
    WorkersOption,
)
from squeezenet.cli.output import (
    make_progress,
    plain,
    print_json,
    report_skipped,
    report_unused,
)
from squeezenet.cli.table import print_text
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY
from squeezenet.launch import this_launch

DataArgument: TypeAlias = Annotated[
    str,
    Parameter(
        help="Folder train/<class>/* with an optional val/ (test/ is never read), folder "
        "<class>/* of which a part is held out for validation, shards of either (squeezenet "
        "shard) in a folder or at a URL, or the word digits."
    ),
]
OutOption: TypeAlias = Annotated[
    Path | None,
    Parameter(
        help="Folder for the run (default: runs/ and the data's name). The same command again "
        "resumes an interrupted run; with more --epochs it trains a run longer."
    ),
]
ArchOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="Architecture to train from scratch: a name (see squeezenet info), or a JSON file "
        "that describes a network, such as squeezenet info --json prints. Without --arch and "
        "--from, the data decides: few photographs fine-tune squeezenet1_1."
    ),
]
FromOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--from",
        help="Model to fine-tune: a file or run folder, default (the network of the package), or "
        "published weights by name (see squeezenet fetch), downloaded once. For a file of such a "
        "name, write ./NAME. With a JSON file as --arch, that network takes the first layers that "
        "both have in common.",
    ),
]
ClassesOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="With --from: names of the model's outputs, if its file does not name them; see "
        "squeezenet eval --help. Where they are the data's, the last layer is kept."
    ),
]
NewHeadOption: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        help="With --from: learn the last layer anew. By default only if the classes differ.",
    ),
]
TeacherOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="Model whose predictions are learned beside the labels (distillation), usually a "
        "larger network: a file, a run folder or a name, as for --from. Its classes and input are "
        "those of the network that is trained."
    ),
]
RecipeOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="default, small, digits, finetune, imagenet or paper, or a JSON file with what "
        'differs from one of them, as in {"base": "small", "epochs": 20} (default: chosen by '
        "data and network)."
    ),
]
EpochsOption: TypeAlias = Annotated[
    int | None,
    Parameter(
        help="Epochs to train (default: the recipe's). A run that is trained longer has the "
        "learning rates of a run of the new length from there on."
    ),
]
MaxStepsOption: TypeAlias = Annotated[
    int | None, Parameter(help="Optimiser steps to train, instead of --epochs.")
]
BatchSizeOption: TypeAlias = Annotated[
    int | None, Parameter(help="Images per optimiser step (default: the recipe's).")
]
MicroBatchOption: TypeAlias = Annotated[
    int | None,
    Parameter(help="Max images in memory at once; their gradients add up to a batch's."),
]
LearningRateOption: TypeAlias = Annotated[
    float | None, Parameter(help="Peak learning rate (default: the recipe's).")
]
InputSizeOption: TypeAlias = Annotated[
    int | None,
    Parameter(
        help="Input side in pixels. Up to 32, a network for large images takes its small-input "
        "form (default: the network's, or the images' if they are that small)."
    ),
]
InputChannelsOption: TypeAlias = Annotated[
    int | None, Parameter(help="1 for grey, 3 for colour (default: the network's).")
]
BatchNormOption: TypeAlias = Annotated[
    bool | None, Parameter(help="Batch normalisation (default: the recipe's choice).")
]
FlipOption: TypeAlias = Annotated[
    bool | None,
    Parameter(
        help="Mirror each image in every other epoch (default: the recipe's choice); not for "
        "digits and letters."
    ),
]
TrainImagesOption: TypeAlias = Annotated[
    int | None,
    Parameter(
        help="Train on so many images, the same ones every time, each class with its share "
        "(default: all)."
    ),
]
ValFractionOption: TypeAlias = Annotated[
    float, Parameter(help="Fraction of each class to hold out if there is no val/.")
]
PrecisionOption: TypeAlias = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Parameter(help="auto: bfloat16 where the hardware multiplies in it."),
]
KeepCheckpointsOption: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Keep every checkpoint, also after the end.",
    ),
]


KeepOption: TypeAlias = Annotated[
    int, Parameter(help="Checkpoints to keep while training; after the end one is kept.")
]
CommHookOption: TypeAlias = Annotated[
    Literal["none", "fp16", "bf16", "int8", "powersgd"],
    Parameter(
        help="With several processes: what shrinks gradients on the network. fp16 and bf16 halve "
        "them; int8 sends a quarter, with error feedback; powersgd sends low-rank approximations, "
        "over ten times smaller."
    ),
]
PowerSgdRankOption: TypeAlias = Annotated[
    int, Parameter(name="--powersgd-rank", help="Rank of the approximations of powersgd.")
]
SyncBatchNormOption: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        help="With several processes: batch normalisation over the images of all, on CUDA GPUs.",
    ),
]


def train(
    data: DataArgument,
    /,
    *,
    out: OutOption = None,
    arch: ArchOption = None,
    from_: FromOption = None,
    classes: ClassesOption = None,
    new_head: NewHeadOption = False,
    teacher: TeacherOption = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    batch_size: BatchSizeOption = None,
    micro_batch: MicroBatchOption = None,
    learning_rate: LearningRateOption = None,
    input_size: InputSizeOption = None,
    input_channels: InputChannelsOption = None,
    batch_norm: BatchNormOption = None,
    flip: FlipOption = None,
    train_images: TrainImagesOption = None,
    val_fraction: ValFractionOption = 0.1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    checkpoint_every: CheckpointOption = 60.0,
    keep: KeepOption = 2,
    keep_checkpoints: KeepCheckpointsOption = False,
    comm_hook: CommHookOption = "none",
    powersgd_rank: PowerSgdRankOption = 2,
    sync_batch_norm: SyncBatchNormOption = False,
    rank_timeout: RankTimeoutOption = 600.0,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    list_unused: ListUnusedOption = False,
    json: JsonOption = False,
) -> None:
    """Train or fine-tune a network, or resume a stopped run."""
    progress = make_progress()
    result = train_into_folder(
        data,
        out=out,
        arch=arch,
        from_=from_,
        classes=classes,
        new_head=new_head,
        teacher=teacher,
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
        train_images=train_images,
        val_fraction=val_fraction,
        seed=seed,
        device=device,
        precision=precision,
        threads=threads,
        checkpoint_every=checkpoint_every,
        keep=keep,
        keep_checkpoints=keep_checkpoints,
        comm_hook=comm_hook,
        powersgd_rank=powersgd_rank,
        sync_batch_norm=sync_batch_norm,
        rank_timeout=rank_timeout,
        strict=strict,
        workers=workers,
        max_pixels=max_pixels,
        max_memory=max_memory,
        progress=progress,
    )
    if not this_launch().is_main:
        return
    report_skipped(result.skipped, progress)
    report_unused(result.findings, progress, list_all=list_unused)
    _show(result, as_json=json)


def _show(result: TrainResult, *, as_json: bool) -> None:
    if as_json:
        fields = dataclasses.asdict(result)
        del fields["findings"]
        fields |= {"out": str(result.out), "from": fields.pop("from_")}
        print_json(plain(fields | {"not_used": result.findings.counts}))
        return
    print_text(
        f"{result.out}: best top-1 {result.best_top1:.1f}% at epoch {result.best_epoch} on "
        f"{result.val_images} validation images; {result.train_images} training images, "
        f"{result.steps} steps, {result.seconds:.0f} s"
        + (f"; report in {result.report}" if result.report else "")
    )
