"""``squeezenet predict``: the option parser's side of ``predict_images``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from squeezenet.cli.options import (
    ArchOption,
    ClassesOption,
    JsonOption,
    ListUnusedOption,
    MaxMemoryOption,
    MaxPixelsOption,
    StrictOption,
)
from squeezenet.cli.predict_images import Format, predict_images
from squeezenet.images.limits import DEFAULT_LIMITS, DEFAULT_MAX_MEMORY


def predict(
    *model_and_images: Annotated[
        str,
        Parameter(
            help="A model (see squeezenet eval --help), then images: files, folders, globs, or - "
            "for one on stdin. Without a model the built-in CIFAR-10 network predicts.",
            allow_leading_hyphen=True,
        ),
    ],
    top: Annotated[int, Parameter(help="Number of classes per image.")] = 3,
    min_probability: Annotated[
        float,
        Parameter(help="Print 'unsure' where the best class has less than this (0 to 1)."),
    ] = 0.0,
    format: Annotated[Format, Parameter(help="Output format.")] = "table",
    classes: ClassesOption = None,
    arch: ArchOption = None,
    strict: StrictOption = False,
    max_pixels: MaxPixelsOption = DEFAULT_LIMITS.max_pixels,
    max_memory: MaxMemoryOption = DEFAULT_MAX_MEMORY,
    list_unused: ListUnusedOption = False,
    json: JsonOption = False,
) -> None:
    """Name the class of each image, with probabilities."""
    predict_images(
        model_and_images,
        top=top,
        min_probability=min_probability,
        format=format,
        classes=classes,
        arch=arch,
        strict=strict,
        max_pixels=max_pixels,
        max_memory=max_memory,
        list_unused=list_unused,
        json=json,
    )
