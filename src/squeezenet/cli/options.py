"""Arguments that several commands share, and what they open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter, Token

from squeezenet.arch.record import ModelRecord
from squeezenet.client import Classifier
from squeezenet.codec.kinds import ModelKind, model_kind, read_compressed
from squeezenet.errors import FloatOnlyError, UsageError
from squeezenet.extras import require_extra
from squeezenet.images.batches import BadImages
from squeezenet.images.decode import Pixels
from squeezenet.images.evaluate import Network
from squeezenet.images.preprocess import crop_pixels, from_pixels
from squeezenet.images.sets import ImageSet, read_eval_folder, with_model_labels
from squeezenet.progress import Progress
from squeezenet.reference.float_interpreter import FloatInterpreter

DIGITS = "digits"
"""As ``data.digits.DIGITS``, which is not to be imported before it is known to be needed."""

DEFAULT = "default"
DEFAULT_MODEL = Path(str(files("squeezenet"))) / "weights" / "cifar10.sqz"
"""What the word stands for: the network that comes with the package."""


def model_path(word: str) -> Path:
    """Return the path that a model argument means."""
    return DEFAULT_MODEL if word == DEFAULT else Path(word)


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


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """A model argument ready to run: ``crop`` makes of RGB pixels what ``network`` takes.

    ``file_bytes`` is what it takes on disk. Files for integer clients run on the compiled runtime,
    bit for bit as everywhere.
    """

    record: ModelRecord
    network: Network
    crop: Callable[[Pixels], Pixels]
    file_bytes: int
    arithmetic: Literal["integer", "float32"]


def open_model(
    path: Path, arch: str | None = None, *, in_float: bool = False, threads: int = 1
) -> OpenModel:
    """Open a model argument, compressed ones without torch.

    ``in_float``: run what integer clients run in float32 too; ``threads`` are for integers.
    """
    kind = model_kind(path)
    if kind is ModelKind.SQZ and not in_float:
        try:
            classifier = Classifier(path, threads=threads)
        except FloatOnlyError:
            pass
        else:
            return OpenModel(
                record=classifier.record,
                network=classifier.logits,
                crop=classifier.crop,
                file_bytes=path.stat().st_size,
                arithmetic="integer",
            )
    if kind.is_compressed:
        model = read_compressed(path, kind)
        return OpenModel(
            record=model.record,
            network=FloatInterpreter(model).logits,
            crop=_crop(model.record),
            file_bytes=path.stat().st_size,
            arithmetic="float32",
        )
    require_extra("train", f"reading a {kind.value}")
    from squeezenet.model.load import BEST_WEIGHTS, load_model

    loaded = load_model(path, arch)
    file = path / BEST_WEIGHTS if kind is ModelKind.RUN_FOLDER else path
    network = from_pixels(loaded.logits, loaded.record.preprocessing)
    return OpenModel(
        record=loaded.record,
        network=network,
        crop=_crop(loaded.record),
        file_bytes=file.stat().st_size,
        arithmetic="float32",
    )


def _crop(record: ModelRecord) -> Callable[[Pixels], Pixels]:
    return lambda pixels_HWC: crop_pixels(pixels_HWC, record.preprocessing)


def open_eval_images(source: str, record: ModelRecord, split: str | None) -> ImageSet:
    """Open the images to judge a model by: a folder, or ``digits`` (its test part)."""
    if source == DIGITS:
        require_extra("train", "the data set digits")
        from squeezenet.data.digits import load_digits

        return with_model_labels(load_digits()[split or "test"], record)
    return with_model_labels(read_eval_folder(Path(source), split), record)


def require_seed(seed: int) -> None:
    """Refuse what random number generators do.

    Raises:
        UsageError: the seed is negative or over 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed {seed}, expected 0 to {2**32 - 1}")


def require_workers(workers: int | None) -> None:
    """Refuse a number of processes that makes no sense.

    Raises:
        UsageError: it is below 0 or above 256.
    """
    if workers is not None and not 0 <= workers <= 256:
        raise UsageError(f"--workers {workers}, expected 0 to 256")


def set_threads(threads: int | None) -> None:
    """Let torch compute with so many threads.

    Raises:
        UsageError: a number that makes no sense.
    """
    if threads is None:
        return
    if not 1 <= threads <= 1024:
        raise UsageError(f"--threads {threads}, expected 1 to 1024")
    import torch

    torch.set_num_threads(threads)


def bad_images(progress: Progress, *, strict: bool) -> BadImages:
    """Bad images are told as they come."""
    return BadImages(strict=strict, report=progress.log)


def tell_skipped(bad: BadImages, progress: Progress) -> None:
    """End a run with the count of what it skipped."""
    if bad.count:
        what, was = ("image", "was") if bad.count == 1 else ("images", "were")
        progress.log(f"{bad.count} {what} could not be read and {was} skipped")
