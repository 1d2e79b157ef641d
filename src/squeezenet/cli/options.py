"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter, Token

from squeezenet.arch.class_labels import hint_at_classes
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.model_kinds import model_path
from squeezenet.extras import require_extra
from squeezenet.images.sets import ImageSet, read_eval_folder, with_model_labels

DIGITS = "digits"
"""Equals ``data.digits.DIGITS``, whose module needs scikit-learn and is imported when needed."""


RUNNING = Group("Running", sort_key=9)
"""The options of how a command runs, last in its help: they do not change what it is for."""


def _model_path(type_: Any, tokens: Sequence[Token]) -> Path:
    return model_path(tokens[0].value)


ModelArgument: TypeAlias = Annotated[
    Path,
    Parameter(
        converter=_model_path,
        help="Run folder, .sqz, .safetensors, .pth of a SqueezeNet, Han's .net, or the word "
        "default: the CIFAR-10 network that comes with squeezenet.",
    ),
]
JsonOption: TypeAlias = Annotated[
    bool,
    Parameter(name="--json", negative=(), group=RUNNING, help="Print one JSON object on stdout."),
]
ArchOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        group=RUNNING,
        help="Architecture of weights of others. By default their shapes decide.",
    ),
]
ClassesOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="Names of the model's outputs, if its file does not name them: a text file with a "
        "name per line (or id, tab, name), a JSON list, or a folder of class folders.",
    ),
]
StrictOption: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(), group=RUNNING, help="Fail on an image that cannot be read, not skip it."
    ),
]
SplitOption: TypeAlias = Annotated[
    Literal["train", "val", "test"] | None,
    Parameter(help="Part of the data to use. By default test, else val."),
]
WorkersOption: TypeAlias = Annotated[
    int | None,
    Parameter(
        group=RUNNING,
        help="Processes that decode images. By default the number of images and cores decide.",
    ),
]
SeedOption: TypeAlias = Annotated[
    int, Parameter(group=RUNNING, help="Seed of everything that is random.")
]
DeviceOption: TypeAlias = Annotated[
    str, Parameter(group=RUNNING, help="auto, cpu, cuda, cuda:1 or mps.")
]
ThreadsOption: TypeAlias = Annotated[
    int | None, Parameter(group=RUNNING, help="CPU threads. By default one per core.")
]
CheckpointOption: TypeAlias = Annotated[
    float,
    Parameter(group=RUNNING, help="Seconds between checkpoints. Each epoch also ends with one."),
]


def open_eval_images(source: str, record: ModelRecord, split: str | None) -> ImageSet:
    """Open images to evaluate a model on: a folder, or ``digits`` (its test part by default)."""
    if source == DIGITS:
        require_extra("train", "the data set digits")
        from squeezenet.data.digits import load_digits

        images: ImageSet = load_digits()[split or "test"]
    else:
        images = read_eval_folder(Path(source), split)
    with hint_at_classes(record.class_names):
        return with_model_labels(images, record)
