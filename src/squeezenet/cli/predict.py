"""``squeezenet predict``: what is in these pictures?"""

from __future__ import annotations

import csv
import glob
import io
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from squeezenet.cli.display import make_progress, one_line, plain, print_json, print_table
from squeezenet.cli.options import (
    DEFAULT_MODEL,
    ArchOption,
    JsonOption,
    OpenModel,
    StrictOption,
    bad_images,
    model_path,
    open_model,
    tell_skipped,
)
from squeezenet.errors import DataError, ImageError, UsageError
from squeezenet.images.decode import is_image, read_image
from squeezenet.images.evaluate import require_finite
from squeezenet.images.sets import read_unlabelled
from squeezenet.images.topk import softmax, top_k

UNSURE = "unsure"
_STDIN = "-"


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
    format: Annotated[Literal["table", "csv", "jsonl"], Parameter(help="Output.")] = "table",
    arch: ArchOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Name the class of each image, with probabilities."""
    model, images = _parted(model_and_images)
    if not images:
        raise UsageError("no image given; expected files, folders, globs, or - for stdin")
    if not 0 <= min_probability <= 1 or top < 1:
        raise UsageError(
            f"--min-probability {min_probability}, --top {top}; expected 0 to 1, and at least 1"
        )
    progress = make_progress()
    opened = open_model(model, arch)
    bad = bad_images(progress, strict=strict)
    answers = []
    for name in _expand(images):
        try:
            answers.append(_answer(name, opened, top, min_probability))
        except ImageError as error:
            bad.add(str(error))
            continue
        if format == "jsonl" and not json:
            print_json(plain(answers[-1]), indent=None)
    tell_skipped(bad, progress)
    if json:
        print_json(plain({"predictions": answers, "skipped": bad.count}))
    elif format == "csv":
        _print_csv(answers)
    elif format == "table" and answers:
        _print_table(answers)
    if not answers:
        raise DataError("none of the images could be read; see the messages above")


def _parted(arguments: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """The model and the images; images alone are for the default model."""
    if not arguments or _names_images(arguments[0]):
        return DEFAULT_MODEL, arguments
    return model_path(arguments[0]), arguments[1:]


def _names_images(argument: str) -> bool:
    path = Path(argument)
    if argument == _STDIN or (not path.exists() and glob.has_magic(argument)):
        return True
    if path.is_dir():
        return not any(path.glob("*.safetensors"))  # which a run folder has
    return is_image(path)


def _expand(arguments: tuple[str, ...]) -> list[str]:
    """Files as they are; folders and globs as the images that they hold, sorted."""
    names: list[str] = []
    for argument in arguments:
        if not argument:
            raise UsageError("an empty image name; expected files, folders, globs, or -")
        path = Path(argument)
        if argument.startswith("-") and argument != _STDIN and not path.exists():
            raise UsageError(f"unknown option {argument}; see squeezenet predict --help")
        if path.is_dir():
            names += map(str, read_unlabelled(path).paths)
        elif argument != _STDIN and not path.exists() and glob.has_magic(argument):
            found = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - may be absolute
            if not found:
                raise UsageError(f"{argument}: no file matches")
            names += found
        else:
            names.append(argument)
    return names


def _answer(name: str, model: OpenModel, top: int, min_probability: float) -> dict[str, Any]:
    if name == _STDIN:
        if sys.stdin is None:
            raise UsageError("-: there is no standard input")
        pixels = read_image(io.BytesIO(sys.stdin.buffer.read()), "stdin")
    else:
        pixels = read_image(Path(name))
    logits_NK = model.network(model.crop(pixels)[None])
    require_finite(logits_NK, model.record)
    probabilities = softmax(logits_NK)[0]
    record = model.record
    ranked: list[dict[str, Any]] = [
        {
            "class": record.class_names[i],
            **({"id": record.class_ids[i]} if record.class_ids else {}),
            "probability": float(probabilities[i]),
        }
        for i in top_k(logits_NK, min(top, len(record.class_names)))[0]
    ]
    best = ranked[0]
    sure = best["probability"] >= min_probability
    return {
        "image": name,
        "label": best["class"] if sure else UNSURE,
        "probability": best["probability"],
        "top": ranked,
    }


def _print_csv(answers: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "label", "probability"])
    for answer in answers:
        writer.writerow(
            [one_line(answer["image"]), answer["label"], f"{answer['probability']:.4f}"]
        )


def _print_table(answers: list[dict[str, Any]]) -> None:
    rows = []
    for answer in answers:
        others = ", ".join(f"{t['class']} {100 * t['probability']:.1f}%" for t in answer["top"][1:])
        probability = f"{100 * answer['probability']:.1f}%"
        rows.append([answer["image"], answer["label"], probability, others])
    print_table("", ["image", "label", "probability", "next"], rows)
