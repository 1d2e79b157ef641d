"""What ``squeezenet predict`` does: images to predictions, and how they are printed.

It imports no option parser: a simple ``predict MODEL IMAGE...`` comes straight from ``__main__``.
"""

from __future__ import annotations

import glob
import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from squeezenet.api.predictor import open_predictor
from squeezenet.cli.output import (
    LineProgress,
    bad_images,
    plain,
    print_json,
    report_skipped,
    report_unused,
)
from squeezenet.cli.suggest import see_help, unknown
from squeezenet.cli.table import Column, print_table, print_text
from squeezenet.cli.text import one_line
from squeezenet.codec.model_kinds import DEFAULT_MODEL, is_sqz, model_path
from squeezenet.errors import DataError, ImageError, UsageError
from squeezenet.images.bad import with_notes
from squeezenet.images.decode import is_image, read_rgb
from squeezenet.images.limits import (
    DEFAULT_LIMITS,
    DEFAULT_MAX_MEMORY,
    ImageLimits,
    parse_limits,
)
from squeezenet.images.walk import NOTHING, Findings, find_pictures

if TYPE_CHECKING:
    from PIL import Image

    from squeezenet.api.predictor import Predictor

UNSURE = "unsure"
DEFAULT_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""Classes of ``DEFAULT_MODEL``, printed before it is opened; a test compares them to its file."""
_COLUMNS = (
    Column("image", rank=2, shorten="path", min_width=4),
    Column("label", rank=0, shorten="end"),
    Column("probability", rank=1),
    Column("next", rank=3, shorten="list", min_width=16, optional=True),
)
"""At 40 columns a label of 25 is shown in full, with its probability."""
_STDIN = "-"
Format = Literal["table", "csv", "jsonl"]


def predict_images(
    model_and_images: tuple[str, ...],
    *,
    top: int = 3,
    min_probability: float = 0.0,
    format: Format = "table",
    classes: str | None = None,
    arch: str | None = None,
    strict: bool = False,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
    max_memory: str = DEFAULT_MAX_MEMORY,
    list_unused: bool = False,
    json: bool = False,
) -> None:
    """Print the classes of images; the arguments are those of the command."""
    _require_no_option(model_and_images)
    model, images = _split_arguments(model_and_images)
    if not images and not model.exists():
        raise UsageError(f"{model}: no such file or folder")
    if not images:
        raise UsageError(
            "no image given; expected files, folders, globs, or - for stdin; " + see_help("predict")
        )
    if not 0 <= min_probability <= 1 or top < 1:
        raise UsageError(
            f"--min-probability {min_probability}, --top {top}; expected 0 to 1, and at least 1"
        )
    limits = parse_limits(max_pixels, max_memory)
    progress = LineProgress()  # on a terminal too: there is no bar, and rich is slow to import
    if len(images) == len(model_and_images):
        print_text(
            "no model given: using the built-in CIFAR-10 network, which knows "
            + ", ".join(DEFAULT_CLASSES),
            sys.stderr,
        )
    predictor = open_predictor(model, arch, classes=classes, progress=progress)
    bad = bad_images(progress, strict=strict)
    predictions = []
    names, findings = _expand(images)
    for name in names:
        try:
            image, notes = with_notes(partial(_read, name, limits))
            predictions.append(_predict(name, image, predictor, top, min_probability))
        except ImageError as error:
            bad.add(str(error))
            continue
        for note in notes:
            bad.note(note)
        if format == "jsonl" and not json:
            print_json(plain(predictions[-1]), indent=None)
    report_skipped(bad.count, progress)
    report_unused(findings, progress, list_all=list_unused)
    if json:
        result = {"predictions": predictions, "skipped": bad.count}
        print_json(plain(result | {"not_used": findings.counts}))
    elif format == "csv":
        _print_csv(predictions)
    elif format == "table" and predictions:
        _print_table(predictions)
    if not predictions:
        raise DataError("none of the images could be read; see the messages above")


def _require_no_option(arguments: tuple[str, ...]) -> None:
    """Refuse what looks like an option, unless it is the name of a file."""
    for argument in arguments:
        if argument.startswith("-") and argument != _STDIN and not Path(argument).exists():
            known = (f"--{name.replace('_', '-')}" for name in predict_images.__kwdefaults__ or ())
            message = unknown("option", argument.partition("=")[0], known)
            raise UsageError(f"predict: {message} {see_help('predict')}")


def _split_arguments(arguments: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """Split into the model and the images; images alone are for the default model."""
    if not arguments or _names_images(arguments[0]):
        return DEFAULT_MODEL, arguments
    return model_path(arguments[0]), arguments[1:]


def _names_images(argument: str) -> bool:
    path = Path(argument)
    if argument == _STDIN or (not path.exists() and glob.has_magic(argument)):
        return True
    if path.is_dir():
        return not any(path.glob("*.safetensors"))  # which a run folder has
    return not is_sqz(path) and is_image(path)


def _expand(arguments: tuple[str, ...]) -> tuple[list[str], Findings]:
    """Replace folders and globs by the images in them, sorted; say what is passed over."""
    names: list[str] = []
    findings = NOTHING
    for argument in arguments:
        if not argument:
            raise UsageError("an empty image name; expected files, folders, globs, or -")
        path = Path(argument)
        if path.is_dir():
            pictures, passed_over = find_pictures(path)
            inside = Findings(passed_over=tuple(passed_over))
            if not pictures:
                why = inside.summary(hint=False)
                raise DataError(f"{path}: no images inside{f' ({why})' if why else ''}")
            names += map(str, pictures)
            findings += inside
        elif argument != _STDIN and not path.exists() and glob.has_magic(argument):
            found = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - may be absolute
            if not found:
                raise UsageError(f"{argument}: no file matches")
            names += found
        else:
            names.append(argument)
    return names, findings


def _read(name: str, limits: ImageLimits) -> Image.Image:
    if name != _STDIN:
        return read_rgb(Path(name), limits=limits)
    if sys.stdin is None:
        raise UsageError("-: there is no standard input")
    return read_rgb(io.BytesIO(sys.stdin.buffer.read()), "stdin", limits)


def _predict(
    name: str, image: Image.Image, model: Predictor, top: int, min_probability: float
) -> dict[str, Any]:
    ranked: list[dict[str, Any]] = [
        {
            "class": prediction.label,
            **({"id": prediction.id} if prediction.id is not None else {}),
            "probability": prediction.probability,
        }
        for prediction in model(image, top)
    ]
    best = ranked[0]
    sure = best["probability"] >= min_probability
    return {
        "image": name,
        "label": best["class"] if sure else UNSURE,
        "probability": best["probability"],
        "top": ranked,
    }


def _print_csv(predictions: list[dict[str, Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "label", "probability"])
    for prediction in predictions:
        writer.writerow(
            [one_line(prediction["image"]), prediction["label"], f"{prediction['probability']:.4f}"]
        )


def _print_table(predictions: list[dict[str, Any]]) -> None:
    rows = []
    for prediction in predictions:
        others = ", ".join(
            f"{t['class']} {100 * t['probability']:.1f}%" for t in prediction["top"][1:]
        )
        probability = f"{100 * prediction['probability']:.1f}%"
        rows.append([prediction["image"], prediction["label"], probability, others])
    print_table("", _COLUMNS, rows)
