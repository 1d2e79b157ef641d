"""The report of a compression: what the written file takes and loses, and what was required."""

from __future__ import annotations

from dataclasses import dataclass

from squeezenet.codec.sizes import LayerSizes
from squeezenet.compress.stage_table import StageRow
from squeezenet.errors import QualityError
from squeezenet.evaluation.metrics import Comparison
from squeezenet.images.walk import NOTHING, Findings

_ADVICE_TOO_LARGE = {
    "deep-compression": "prune more (--density) or use fewer --bits",
    "rd": "ask for a few bytes less",
}
_ADVICE_TOO_LOSSY = {
    "deep-compression": "keep more weights (--density), use more --bits, or retrain longer "
    "(--prune-epochs)",
    "rd": "allow more bytes, or a higher --effort",
}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Expected calibration errors (15 bins) on the measured images, in percentage points.

    ``before``: of the original. ``after``: of the file. ``temperature``: what the file's logits
    are divided by; 1 for nothing.
    """

    before: float
    after: float
    temperature: float


@dataclass(frozen=True, kw_only=True)
class SearchPoint:
    """One network that the search for a size or a drop has tried.

    ``divergence``: its KL divergence from the original in nats, as the quadratic model predicts
    it. ``survivors``: how wide its rounding searched. ``bytes``: the size of its file.
    """

    divergence: float
    survivors: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TrainingPoint:
    """A network while its levels are trained, at the end of an epoch.

    ``seconds``: of training until then. ``bytes``: the size of its file. ``divergence``: its KL
    divergence from the original in nats, measured on held-out images.
    """

    step: int
    seconds: float
    bytes: int
    divergence: float


@dataclass(frozen=True, kw_only=True)
class CompressionReport:
    """What is known of the written file. Accuracies are those of the file itself.

    ``original_bytes``: the float32 weights and biases. ``max_drop`` and ``target_bytes``: what was
    required, None for no requirement. ``calibration``: None without labelled images. ``search``:
    what was tried, in this order; empty without a search, or if an interrupted call had searched.
    ``training``: how its levels were trained, if they were.
    ``skipped`` counts images that could not be read; ``findings`` has the files of the data that
    are no pictures.
    """

    file_bytes: int
    method: str
    original_bytes: int
    stages: tuple[StageRow, ...]
    layers: tuple[LayerSizes, ...]
    comparison: Comparison
    measured_images: int
    measured_labelled: bool
    max_drop: float | None
    target_bytes: int | None
    calibration: Calibration | None = None
    search: tuple[SearchPoint, ...] = ()
    training: tuple[TrainingPoint, ...] = ()
    skipped: int = 0
    findings: Findings = NOTHING

    @property
    def drop(self) -> float:
        """Points of top-1 lost; without labels, percent of predictions that changed."""
        return drop_of(self.comparison, labelled=self.measured_labelled)

    def require_quality(self) -> None:
        """Refuse a file that is larger, or loses more, than was allowed.

        Raises:
            QualityError: says by how much and what may help; the file stays.
        """
        if self.target_bytes is not None and self.file_bytes > self.target_bytes:
            raise QualityError(
                f"the file is written, but has {self.file_bytes} bytes, expected at most "
                f"{self.target_bytes}; {_ADVICE_TOO_LARGE[self.method]}"
            )
        # "not <=" also refuses a drop that is NaN.
        if self.max_drop is not None and not self.drop <= self.max_drop:
            unit = (
                "points of top-1 lost"
                if self.measured_labelled
                else "percent of predictions changed"
            )
            raise QualityError(
                f"the file is written, but {self.drop:.2f} {unit} on "
                f"{self.measured_images} images, expected at most {self.max_drop:g}; "
                f"{_ADVICE_TOO_LOSSY[self.method]}"
            )


def drop_of(comparison: Comparison, *, labelled: bool) -> float:
    """Return points of top-1 lost; without labels, percent of predictions that changed."""
    return -comparison.top1_difference if labelled else 100 - comparison.agreement
