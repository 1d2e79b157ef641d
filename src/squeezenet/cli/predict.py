"""``squeezenet predict``: what is in these pictures?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from squeezenet.cli.options import ArchOption, JsonOption, StrictOption
from squeezenet.cli.predict_images import Format, predict_images


def predict(
    *model_and_images: Annotated[
        str,
        Parameter(
            help="A model (see squeezenet eval --help), then images: files, folders, globs, or - "
            "for one on stdin. Without a model, the network for CIFAR-10's ten classes that comes "
            "with squeezenet answers.",
            allow_leading_hyphen=True,
        ),
    ],
    top: Annotated[int, Parameter(help="How many classes to tell.")] = 3,
    min_probability: Annotated[
        float, Parameter(help="Answer 'unsure' where the best class has less (0 to 1).")
    ] = 0.0,
    format: Annotated[Format, Parameter(help="Output.")] = "table",
    arch: ArchOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Name the class of each image, with probabilities."""
    predict_images(
        model_and_images,
        top=top,
        min_probability=min_probability,
        format=format,
        arch=arch,
        strict=strict,
        json=json,
    )
