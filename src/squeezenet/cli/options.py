"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter, Token

from squeezenet.api.model_argument import model_path
from squeezenet.arch.record import ModelRecord
from squeezenet.extras import require_extra
from squeezenet.images.sets import ImageSet, read_eval_folder, with_model_labels

DIGITS = "digits"
"""As ``data.digits.DIGITS``, which is not to be imported before it is known to be needed."""


def _convert(type_: Any, tokens: Sequence[Token]) -> Path:
    return model_path(tokens[0].value)


ModelArgument: TypeAlias = Annotated[
    Path,
    Parameter(
        converter=_convert,
        help="Run folder, .sqz, .safetensors, torchvision .pth, Han's .net, or the word default: "
        "the network for CIFAR-10 that comes with squeezenet.",
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print one JSON object on stdout.")
]
ArchOption: TypeAlias = Annotated[
    str | None, Parameter(help="Architecture of a .pth; told from its shapes if not given.")
]
StrictOption: TypeAlias = Annotated[
    bool, Parameter(negative=(), help="An image that cannot be read is an error.")
]
SplitOption: TypeAlias = Annotated[
    Literal["train", "val", "test"] | None, Parameter(help="Which part of the data to use.")
]
WorkersOption: TypeAlias = Annotated[
    int | None,
    Parameter(
        help="Processes that decode images; chosen by set and machine if not given.", show=True
    ),
]

SeedOption: TypeAlias = Annotated[int, Parameter(help="All that is random follows from it.")]
DeviceOption: TypeAlias = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")]
ThreadsOption: TypeAlias = Annotated[
    int | None, Parameter(help="CPU threads that compute; by default one a core.")
]
CheckpointOption: TypeAlias = Annotated[
    float, Parameter(help="Seconds between checkpoints; one is also written at each epoch's end.")
]


def open_eval_images(source: str, record: ModelRecord, split: str | None) -> ImageSet:
    """Open the images to judge a model by: a folder, or ``digits`` (its test part)."""
    if source == DIGITS:
        require_extra("train", "the data set digits")
        from squeezenet.data.digits import load_digits

        return with_model_labels(load_digits()[split or "test"], record)
    return with_model_labels(read_eval_folder(Path(source), split), record)
