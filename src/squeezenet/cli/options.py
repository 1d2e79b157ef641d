"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter, Token

from squeezenet.codec.model_kinds import model_path

RUNNING = Group("Running", sort_key=9)
"""The options of how a command runs, last in its help: they do not change what it is for."""


def model_argument(type_: Any, tokens: Sequence[Token]) -> Path:
    """Convert a model argument for the option parser: a path, or the word ``default``."""
    return model_path(tokens[0].value)


ModelArgument: TypeAlias = Annotated[
    Path,
    Parameter(
        converter=model_argument,
        help="Run folder, .sqz, .safetensors, .pth of a SqueezeNet, Han's .net, float32.onnx of "
        "export, or the word default: the CIFAR-10 network that comes with squeezenet.",
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
    Parameter(
        help="Part of the data to use. By default test, else val. In a folder without parts, val "
        "is what training holds out."
    ),
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
    int | None,
    Parameter(
        group=RUNNING, help="CPU threads. By default one per core; 1 is faster on a busy machine."
    ),
]
CheckpointOption: TypeAlias = Annotated[
    float,
    Parameter(group=RUNNING, help="Seconds between checkpoints. Each epoch also ends with one."),
]
MaxPixelsOption: TypeAlias = Annotated[
    int, Parameter(group=RUNNING, help="Largest image that is read, in pixels.")
]
MaxMemoryOption: TypeAlias = Annotated[
    str,
    Parameter(group=RUNNING, help="Memory that decoding one image may take, in bytes: 500M, 2G."),
]
ListUnusedOption: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(), group=RUNNING, help="List the files and folders that are not used, and why."
    ),
]
RankTimeoutOption: TypeAlias = Annotated[
    float,
    Parameter(
        group=RUNNING,
        help="With several processes: seconds that one waits for another before it gives up.",
    ),
]
